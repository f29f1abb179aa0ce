"""Connects a child process with the supervisor that started it: its options, its end, and its error."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from miniml.errors import MinimlError
from miniml.escaping import plain
from miniml.exit_status import ExitStatus, status_of, write_error_file
from miniml.signals import end_when_closed
from miniml.training.processes import Processes


def add_supervised_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that a supervisor gives (see `miniml.supervision.supervisor`)."""
    parser.add_argument("--split", type=int, default=1, help="compute each batch in so many parts")
    supervised = parser.add_argument_group("what the step that started it asks of it")
    supervised.add_argument(
        "--last-words", type=Path, help="write the error that ends it to this file, as JSON"
    )
    supervised.add_argument("--lifeline", type=int, help="end, as by SIGTERM, when this pipe is closed")


@contextmanager
def supervised(options: argparse.Namespace, processes: Processes) -> Iterator[None]:
    """Ends this process with its parent, lets one process of each node print, and turns errors into an exit status.

    Args:
        options: The options, those of `add_supervised_options` among them.
        processes: The processes that train together.

    Raises:
        SystemExit: the block failed; the code is an `ExitStatus`.
    """
    if options.lifeline is not None:
        end_when_closed(options.lifeline)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        try:
            with redirect_stdout(sys.stdout if processes.first else nowhere):
                yield
        except Exception as error:
            sys.exit(_told(error, processes, options.last_words))


def _told(error: Exception, processes: Processes, last_words: Path | None) -> ExitStatus:
    """Tells the parent or a person of the error, and returns the exit status."""
    explained = isinstance(error, MinimlError)
    reason = plain(str(error) if explained else f"{type(error).__name__}: {error}")
    processes.record_failure(reason)
    if processes.may_speak():
        if last_words:
            write_error_file(last_words, error)
        if not (last_words and explained):
            text = f"error: {reason}" if explained else plain(traceback.format_exc())
            print(text, file=sys.stderr, flush=True)
    status = status_of(error)
    lost_another = status is ExitStatus.FAILED and not explained and processes.count > 1
    return ExitStatus.UNFORESEEN if lost_another else status
