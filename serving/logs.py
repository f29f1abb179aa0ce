"""Log lines in which control characters are escaped, so that no client can write to a terminal by them."""

from __future__ import annotations

import logging

from miniml.escaping import printable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def escape_output(logger: logging.Logger) -> None:
    """Has each of the logger's handlers escape control characters."""
    for handler in logger.handlers:
        handler.setFormatter(EscapingFormatter(FORMAT))


class EscapingFormatter(logging.Formatter):
    """A formatter that escapes what could move the cursor, colour the screen or ring, but keeps line feeds."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))
