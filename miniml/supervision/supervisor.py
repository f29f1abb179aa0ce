"""Runs a program that trains in a child process, and starts it again if it dies.

Kubeflow Pipelines does not retry a step whose process has failed or was killed (docs/decisions/0020). The parent
imports none of the training's libraries, so that it needs little memory beside it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import NoReturn

from miniml.errors import MinimlError, StoppedError, StorageError, TrainingProcessError
from miniml.exit_status import ExitStatus, read_error_file
from miniml.files.folders import PARTIAL, remove_abandoned, user_cache
from miniml.progress import duration, logger
from miniml.settings.training import NO_CHECKPOINTS, TrainingSettings
from miniml.signals import on_sigterm
from miniml.supervision.memory_events import killed_in_time, oom_kills

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True)
class Program:
    """A program that trains, and can be started again to go on from its checkpoints."""

    module: str
    """The module to run; it takes the options of `miniml.supervision.child`."""
    words: Sequence[str]
    """Its further arguments."""
    output: Path
    """The folder that it writes. While it is unfinished, ".partial" is added to its name."""
    training: TrainingSettings
    """The settings of its training."""
    name: str
    """What it does, for messages: "the training"."""


@dataclass(frozen=True)
class Retries:
    """The number of retries of a program that died, and the time between them."""

    limit: int = 2
    wait: float = 30.0
    """Seconds before the first retry; the time doubles with each further one."""


def run_supervised(program: Program, retries: Retries | None = None) -> None:
    """Runs a program in a child process, and starts it again from its last checkpoint if a retry may succeed.

    A retry may succeed after the child was killed by a signal, or ran out of memory (then with smaller batches, and
    more of them in a step), or after the network, the store or the hub failed for longer than their time limits.
    SIGTERM is passed on to the child, which saves a checkpoint and ends.

    Args:
        program: What to run.
        retries: How often to retry, and after what time.

    Raises:
        MinimlError: the error with which the child ended, with its type.
        TrainingProcessError: the child died too often, or ended with an unexpected error.
        StoppedError: this process received SIGTERM.
    """
    retries = retries or Retries()
    split, wait = 1, retries.wait
    for number in range(retries.limit + 1):
        end = _run_child(program, split)
        if end.status == ExitStatus.DONE:
            return
        # A killed process leaves its unfinished output.
        remove_abandoned(program.output.with_name(program.output.name + PARTIAL))
        if end.out_of_memory:
            split = _next_split(program.training.batch_size, split)
        if number == retries.limit or not end.is_retryable or not split:
            end.explain(program, tries=number + 1)
        _announce_retry(end, program, split, f"try {number + 2} of {retries.limit + 1}", wait)
        with on_sigterm(_stop):
            time.sleep(wait)
        wait *= 2
    raise AssertionError("every way out of the loop is above")


@dataclass(frozen=True)
class _End:
    """The end of a child process."""

    status: int
    """The exit status; for a signal, its negative number."""
    error: MinimlError | None
    killed_for_memory: bool
    stop_requested: bool
    """Whether this process has received SIGTERM. Then there is no retry, whatever the child ended with."""

    @property
    def out_of_memory(self) -> bool:
        return self.killed_for_memory or self.status == ExitStatus.OUT_OF_MEMORY

    @property
    def is_retryable(self) -> bool:
        if self.stop_requested:
            return False
        killed = self.status < 0 and -self.status not in _STOP_SIGNALS
        return killed or self.out_of_memory or self.status == ExitStatus.UNAVAILABLE

    def __str__(self) -> str:
        if self.status >= 0:
            return str(self.error or f"it ended with status {self.status}")
        name = _name(-self.status)
        return f"killed by {name}" + (" for want of memory" if self.killed_for_memory else "")

    def explain(self, program: Program, tries: int) -> NoReturn:
        """Raises the error that the step ends with."""
        if self.status < 0 and (self.stop_requested or -self.status in _STOP_SIGNALS):
            by = _name(signal.SIGTERM if self.stop_requested else -self.status)
            raise StoppedError(f"stopped by {by}; run again with the same arguments to go on.")
        if self.error and not self.out_of_memory:
            raise self.error
        often = f"{tries} times" if tries > 1 else "at once"
        summary = f"{program.name} died {often}, the last time: {self}."
        if self.out_of_memory:
            training = program.training
            raise TrainingProcessError(
                f"{summary} Lower max_length (now {training.max_length}) or batch_size (now {training.batch_size}), or "
                f"give the step more memory."
            )
        raise TrainingProcessError(
            f"{summary} Its output is above. Run again with the same arguments to go on."
        )


def _run_child(program: Program, split: int) -> _End:
    """Starts a child, and waits for its end."""
    before, stop_requested = oom_kills(), Event()
    # The system closes the write end when this process ends, so the child notices.
    read_end, write_end = os.pipe()
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        last_words = Path(scratch) / "last-words.json"
        words = [*program.words, f"--split={split}", f"--last-words={last_words}", f"--lifeline={read_end}"]
        child = subprocess.Popen(
            [sys.executable, "-m", program.module, *words],
            env={**os.environ, **_child_environment(scratch)},
            pass_fds=(read_end,),
        )
        os.close(read_end)

        def end() -> None:
            stop_requested.set()
            child.terminate()

        try:
            with on_sigterm(end):
                in_time = killed_in_time(child)
        except BaseException:  # Ctrl-C, which the child has received too.
            os.close(write_end)
            write_end = -1
            child.wait()
            raise
        finally:
            if write_end >= 0:
                os.close(write_end)
        killed_for_memory = child.returncode == -signal.SIGKILL and (in_time or oom_kills() > before)
        return _End(child.returncode, read_error_file(last_words), killed_for_memory, stop_requested.is_set())


def _child_environment(scratch: str) -> dict[str, str]:
    """Returns variables that put a child's temporary files into `scratch`, but leave the cache where it is."""
    with suppress(StorageError):  # A training may not need the cache.
        return {"TMPDIR": scratch, "MINIML_CACHE": str(user_cache())}
    return {"TMPDIR": scratch}


def _next_split(batch_size: int, split: int) -> int:
    """Returns the number of equal parts into which to split a batch next, or 0 if a part has one text already."""
    parts = (number for number in range(split + 1, batch_size + 1) if batch_size % number == 0)
    return next((number for number in parts if number >= 2 * split), 0)


def _announce_retry(end: _End, program: Program, split: int, which: str, wait: float) -> None:
    training, batches = program.training, ""
    if end.out_of_memory:
        accumulated = training.gradient_accumulation * split
        batches = (
            f", with batches of {training.batch_size // split} × {accumulated} for as many texts in a step"
        )
    when = f" in {duration(wait)}" if wait else ""
    start = "from the beginning" if training.checkpoints == NO_CHECKPOINTS else "from its last checkpoint"
    logger.info(f"{program.name} died ({end}): {which}{when}, {start}{batches}")


def _stop() -> None:
    raise StoppedError("stopped by SIGTERM, between two tries; run again with the same arguments to go on.")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # A real-time signal has no name.
        return f"signal {number}"
