"""Log lines that do to a terminal nothing but stand there, whoever chose their words."""

from __future__ import annotations

import logging

from miniml.escaping import printable

FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def keep_readable(logger: logging.Logger) -> None:
    """Gives each of the logger's handlers a form that shows what does not print by its number."""
    for handler in logger.handlers:
        handler.setFormatter(Readable(FORM))


class Readable(logging.Formatter):
    """Escapes what could move the cursor, colour the screen, or ring; a line may still hold line feeds of ours."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))
