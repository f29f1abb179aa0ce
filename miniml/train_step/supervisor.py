"""The training as a child of the step that wants it, which starts it again where it dies.

Nobody else does: Kubeflow Pipelines runs no step again whose process has failed or was killed (docs/decisions/0020).
The parent imports no library of the training's, so that it costs next to nothing beside it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import NoReturn

from miniml.errors import MinimlError, StoppedError, StorageError, TrainingProcessError
from miniml.exit_status import ExitStatus, read_last_words
from miniml.files.folders import user_cache
from miniml.model import manifest
from miniml.progress import duration, note
from miniml.search.failure import read_failure
from miniml.search.plan import with_trial
from miniml.settings.command_line import words_of
from miniml.settings.training import NO_CHECKPOINTS, TrainingSettings
from miniml.signals import on_sigterm
from miniml.train_step.memory_events import killed_in_time, oom_kills

_ASKED_TO_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True)
class Request:
    """A training as the train step is given it."""

    dataset_dir: Path
    model_dir: Path
    settings: TrainingSettings
    trial: str = ""
    """In a search, see `miniml.search.plan`."""
    model_uri: str = ""
    """Where the model will be kept by somebody else."""
    pins: str = ""
    report: Path | None = None
    """A page on the training to write."""

    def words(self) -> list[str]:
        """For `python -m miniml.train_step`."""
        named = {"trial": self.trial, "model-uri": self.model_uri, "pins": self.pins, "report": self.report}
        return [
            str(self.dataset_dir),
            str(self.model_dir),
            *words_of(self.settings),
            *(f"--{name}={value}" for name, value in named.items() if value),
        ]


@dataclass(frozen=True)
class Retries:
    """How often, and how long after an end, a training is started again."""

    limit: int = 2
    wait: float = 30.0
    """Seconds before the first; each further one is waited for twice as long."""


@dataclass(frozen=True)
class Trained:
    """What came of it: both empty where a search's trial came to nothing."""

    digest: str
    metrics: dict[str, float]


def fine_tune_watched(request: Request, retries: Retries | None = None) -> Trained:
    """Trains in a child process, and starts it again, from its last checkpoint, where another try may end better.

    That is where it was killed by a signal, for want of memory (then with smaller batches, of which a step takes more),
    or where the network, the store or the hub failed for longer than they were waited for. SIGTERM is handed on: the
    child saves a checkpoint, and that ends it.

    Raises:
        MinimlError: the error with which the child ended, of its own kind.
        TrainingProcessError: the child was killed too often, or ended by an error that nobody foresaw.
        StoppedError: SIGTERM came.
    """
    retries = retries or Retries()
    split, wait = 1, retries.wait
    tried = with_trial(request.settings, request.trial)
    for number in range(retries.limit + 1):
        end = _tried(request, split)
        if end.status == ExitStatus.DONE:
            return _result(request.model_dir)
        # A killed process leaves what it was writing.
        shutil.rmtree(request.model_dir.with_name(request.model_dir.name + ".partial"), ignore_errors=True)
        if end.of_memory:
            split = _next_split(tried.batch_size, split)
        if number == retries.limit or not end.may_go_better or not split:
            end.explain(tried, tries=number + 1)
        _tell(end, tried, split, f"try {number + 2} of {retries.limit + 1}", wait)
        with on_sigterm(_stop):
            time.sleep(wait)
        wait *= 2
    raise AssertionError("every way out of the loop is above")


@dataclass(frozen=True)
class _End:
    """How a try ended."""

    status: int
    """The exit status; a signal's is negative."""
    error: MinimlError | None
    killed_for_memory: bool
    asked: bool
    """Whether SIGTERM had come: whatever the child ended by, nobody waits for another."""

    @property
    def of_memory(self) -> bool:
        return self.killed_for_memory or self.status == ExitStatus.OUT_OF_MEMORY

    @property
    def may_go_better(self) -> bool:
        if self.asked:
            return False
        killed = self.status < 0 and -self.status not in _ASKED_TO_END
        return killed or self.of_memory or self.status == ExitStatus.UNAVAILABLE

    def __str__(self) -> str:
        if self.status >= 0:
            return str(self.error or f"it ended with status {self.status}")
        name = _name(-self.status)
        return f"killed by {name}" + (" for want of memory" if self.killed_for_memory else "")

    def explain(self, settings: TrainingSettings, tries: int) -> NoReturn:
        """Raises the error that the step ends with."""
        if self.status < 0 and (self.asked or -self.status in _ASKED_TO_END):
            by = _name(signal.SIGTERM if self.asked else -self.status)
            raise StoppedError(f"stopped by {by}; run again with the same arguments to go on.")
        if self.error and not self.of_memory:
            raise self.error
        told = f"the training died {f'{tries} times' if tries > 1 else 'at once'}, the last time: {self}."
        if self.of_memory:
            raise TrainingProcessError(
                f"{told} Lower max_length (now {settings.max_length}) or batch_size (now {settings.batch_size}), or "
                f"give the step more memory."
            )
        raise TrainingProcessError(
            f"{told} What it printed before is above; the same again goes on from there."
        )


def _tried(request: Request, split: int) -> _End:
    """One child, from its start to its end."""
    before, asked = oom_kills(), Event()
    reading, holding = os.pipe()  # Our end of it is closed with us.
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        last_words = Path(scratch) / "last-words.json"
        words = [*request.words(), f"--split={split}", f"--last-words={last_words}", f"--lifeline={reading}"]
        child = subprocess.Popen(
            [sys.executable, "-m", "miniml.train_step", *words],
            env={**os.environ, **_places(scratch)},
            pass_fds=(reading,),
        )
        os.close(reading)

        def end() -> None:
            asked.set()
            child.terminate()

        try:
            with on_sigterm(end):
                in_time = killed_in_time(child)
        except BaseException:  # Ctrl-C, which the child has heard too.
            os.close(holding)
            holding = -1
            child.wait()
            raise
        finally:
            if holding >= 0:
                os.close(holding)
        killed_for_memory = child.returncode == -signal.SIGKILL and (in_time or oom_kills() > before)
        return _End(child.returncode, read_last_words(last_words), killed_for_memory, asked.is_set())


def _places(scratch: str) -> dict[str, str]:
    """Variables by which a child's temporary files go with it, however it ends, and what is to be kept does not."""
    with suppress(StorageError):  # Of the cache, which a training may need no more than its parent does.
        return {"TMPDIR": scratch, "MINIML_CACHE": str(user_cache())}
    return {"TMPDIR": scratch}


def _next_split(batch_size: int, split: int) -> int:
    """Into how many parts, of as many texts each, to compute a batch next; 0 where a part is one text already."""
    parts = (number for number in range(split + 1, batch_size + 1) if batch_size % number == 0)
    return next((number for number in parts if number >= 2 * split), 0)


def _tell(end: _End, settings: TrainingSettings, split: int, which: str, wait: float) -> None:
    batches = ""
    if end.of_memory:
        accumulated = settings.gradient_accumulation * split
        batches = (
            f", with batches of {settings.batch_size // split} × {accumulated} for as many texts in a step"
        )
    when = f" in {duration(wait)}" if wait else ""
    whence = "from the beginning" if settings.checkpoints == NO_CHECKPOINTS else "from its last checkpoint"
    note(f"the training died ({end}): {which}{when}, {whence}{batches}")


def _result(model_dir: Path) -> Trained:
    if read_failure(model_dir):
        return Trained("", {})
    model = manifest.read(model_dir)
    return Trained(model.digest, model.metrics)


def _stop() -> None:
    raise StoppedError("stopped by SIGTERM, between two tries; run again with the same arguments to go on.")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # A real-time one.
        return f"signal {number}"
