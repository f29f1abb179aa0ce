"""How a training that ran as a process of its own ended, as its exit status says to the one who started it.

The text of an error is for people. Whether the same is worth another try is told by this number alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from miniml import errors
from miniml.errors import MinimlError, StoppedError, TemporaryError, TrainingProcessError

TERMINATION_LOG = "MINIML_TERMINATION_LOG"
"""The variable that names the file to which a node of several writes the text of its error."""
_OF_TORCH = "OutOfMemoryError"
"""The name of torch's error. Nobody has to import torch to look for it."""
_OF_TORCH_ON_THE_CPU = "DefaultCPUAllocator: can't allocate memory"
"""What torch says, in an error of no type of its own, where main memory is not given."""


class ExitStatus(IntEnum):
    """Any other number is an end that nobody foresaw, and a negative one (of `subprocess`) a signal."""

    DONE = 0
    FAILED = 1
    """It would fail in the same way again: an argument, a file, the code."""
    MISUSED = 2
    """The command line was written wrongly, as argparse has it."""
    UNFORESEEN = 70
    """One of several processes failed with an error that is none of ours: mostly, another one is gone. (`sysexits.h`:
    EX_SOFTWARE)"""
    OUT_OF_MEMORY = 71
    """The memory of the device, or main memory, was not given. Of a process that the kernel killed for want of memory
    only SIGKILL is seen. (`sysexits.h`: EX_OSERR)"""
    UNAVAILABLE = 75
    """The network, the store or the hub failed, and may not the next time. (`sysexits.h`: EX_TEMPFAIL)"""
    STOPPED = 143
    """SIGTERM came; what had been learnt is in a checkpoint, which another try goes on from. (128 + 15, as a shell has
    it)"""


def status_of(error: BaseException) -> ExitStatus:
    """The status with which a process ends that ends with `error`."""
    if isinstance(error, StoppedError):
        return ExitStatus.STOPPED
    if isinstance(error, TemporaryError):
        return ExitStatus.UNAVAILABLE
    if any(map(_is_of_memory, _causes(error))):
        return ExitStatus.OUT_OF_MEMORY
    return ExitStatus.FAILED


def _is_of_memory(error: BaseException) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == _OF_TORCH
        or _OF_TORCH_ON_THE_CPU in str(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def write_last_words(path: Path, error: BaseException) -> None:
    """Leaves the error with which a process ends to the one who started it, who has to tell it to people."""
    # One that is defined beside what raises it is told by its base.
    kinds = (kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    ours = next(kinds, "")
    told = str(error) if ours else f"{type(error).__name__}: {error}"
    path.write_text(json.dumps({"error": ours, "message": told}), encoding="utf-8")


def read_last_words(path: Path) -> MinimlError | None:
    """The error that `write_last_words` wrote, of its own kind; None where there is none, as of a killed process."""
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind: type[MinimlError] = getattr(errors, words["error"] or TrainingProcessError.__name__)
    return kind(words["message"])
