"""Trainings in processes of their own, which end as a pod's do: killed, asked to end, or by themselves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers.trainer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml.errors import StoppedError
from miniml.training.fine_tune import fine_tune
from tests.command import ROOT

# From a process that has imported everything once, a child is there in a moment.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.killed"])


class At(TrainerCallback):
    """Does something at an event of one step, before anybody else hears of the event."""

    def __init__(self, step: int, event: str, action: Any) -> None:
        self._step, self._action = step, action
        setattr(self, event, self._heard)

    def _heard(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step == self._step:
            self._action()


@contextmanager
def happening(step: int, action: Any, event: str = "on_step_end") -> Iterator[None]:
    """Every training in the block calls `action` at that event of that step."""
    every: list[Any] = transformers.trainer.DEFAULT_CALLBACKS
    every.append(At(step, event, action))
    try:
        yield
    finally:
        every.pop()


def children_that_end(
    *ways: str, at_step: int, folder: Path, module: str = "miniml.train_step"
) -> dict[str, str]:
    """The environment in which each further process of `python -m <module>` ends in one of these ways.

    Args:
        ways: Statements, of the first process, the second, and so on; what comes after trains to its end.
        at_step: After which they are run.
        folder: An empty one, for Python to find them in and for them to be counted in.
        module: A program that trains.
    """
    (folder / "sitecustomize.py").write_text(
        f"""
import os, sys
from pathlib import Path

if {module!r} in sys.orig_argv:
    begun = Path({str(folder)!r}, "begun")
    begun.mkdir(exist_ok=True)
    number, ways = len(list(begun.iterdir())), {list(ways)!r}
    (begun / str(number)).touch()
    if number < len(ways):
        import signal, torch, transformers.trainer
        from miniml import errors
        given = dict(os.environ)
        from tests.killed import At
        # The tests' package gives its process a home and caches of its own, where no other try's checkpoints are.
        os.environ.update(given)

        def end():
            exec(ways[number])

        transformers.trainer.DEFAULT_CALLBACKS.append(At({at_step}, "on_step_end", end))
"""
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def killed(step: int, *arguments: Any, event: str = "on_step_end", log: Path) -> str:
    """Trains in another process, which kills itself at that event of that step; gives what it printed."""
    assert _signalled(signal.SIGKILL, step, event, log, arguments) == -signal.SIGKILL, log.read_text()
    return log.read_text()


def asked_to_end(step: int, *arguments: Any, event: str, log: Path) -> str:
    """Trains in another process, which gets a SIGTERM at that event of that step; gives the error it ends with.

    The signal is not for the tests' own process. There OpenVINO has compiled models: each gives the thread a stack for
    signal handlers, and takes it back with the model; where they go in another order than they came, the kernel is
    left with one that is gone, and any signal that Python handles ends in a segmentation fault.
    """
    assert _signalled(signal.SIGTERM, step, event, log, arguments) == 0, log.read_text()
    return log.read_text().splitlines()[-1]


def _signalled(number: int, step: int, event: str, log: Path, arguments: tuple[Any, ...]) -> int | None:
    child = _PROCESSES.Process(target=_train, args=(dict(os.environ), number, step, event, log, arguments))
    child.start()
    child.join()
    return child.exitcode


def _train(
    environment: dict[str, str], number: int, step: int, event: str, log: Path, arguments: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    before = signal.getsignal(signal.SIGTERM)
    with (
        log.open("w", buffering=1) as sys.stdout,
        happening(step, lambda: os.kill(os.getpid(), number), event),
    ):
        try:
            fine_tune(*arguments)
        except StoppedError as error:
            assert signal.getsignal(signal.SIGTERM) is before
            print(error)
        else:
            raise AssertionError("no signal ended the training")
