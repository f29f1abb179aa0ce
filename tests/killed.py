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

from miniml import training

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


def killed(step: int, *arguments: Any, event: str = "on_step_end", log: Path) -> str:
    """Trains in another process, which kills itself at that event of that step; gives what it printed."""
    child = _PROCESSES.Process(target=_train_and_die, args=(dict(os.environ), step, event, log, *arguments))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL, log.read_text()
    return log.read_text()


def _train_and_die(environment: dict[str, str], step: int, event: str, log: Path, *arguments: Any) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    with log.open("w", buffering=1) as sys.stdout, happening(step, _die, event):
        training.fine_tune(*arguments)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
