"""Escapes control characters in log lines, so that no client can control a terminal that shows them."""

from __future__ import annotations

import logging

from miniml.escaping import printable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def escape_output(logger: logging.Logger) -> None:
    """Makes each of the logger's handlers escape control characters."""
    for handler in logger.handlers:
        handler.setFormatter(EscapingFormatter(FORMAT))


class EscapingFormatter(logging.Formatter):
    """A formatter that escapes what could move the cursor, colour the screen or ring, but keeps line feeds."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))
