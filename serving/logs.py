"""Log lines that do to a terminal nothing but stand there, whoever chose their words."""

from __future__ import annotations

import logging

from miniml.escaping import printable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def escape_output(logger: logging.Logger) -> None:
    """Gives each of the logger's handlers a form that shows what does not print by its number."""
    for handler in logger.handlers:
        handler.setFormatter(EscapingFormatter(FORMAT))


class EscapingFormatter(logging.Formatter):
    """Escapes what could move the cursor, colour the screen, or ring; a line may still hold line feeds of ours."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))
