"""Reports how a training process ended to the process that started it.

The text of an error is for people. The exit status alone decides whether a retry may succeed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from miniml import errors
from miniml.errors import MinimlError, StoppedError, TemporaryError, TrainingProcessError

TERMINATION_LOG = "MINIML_TERMINATION_LOG"
"""The environment variable with the file to which a node of a distributed training writes its error."""
_CUDA_MEMORY_ERROR = "OutOfMemoryError"
"""The name of torch's error, compared by name so that torch need not be imported."""
_MEMORY_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""The texts of torch's other errors for want of memory: main memory, and memory of a GPU that CUDA or one of its
libraries allocates without torch's allocator."""


class ExitStatus(IntEnum):
    """The exit status of a training process. Others are unexpected; negative ones (of `subprocess`) are signals."""

    DONE = 0
    FAILED = 1
    """A retry would fail in the same way, because of an argument, a file or the code."""
    MISUSED = 2
    """The command line is invalid (argparse's status)."""
    UNFORESEEN = 70
    """One of several processes failed with an error that is not miniml's, mostly because another one is gone
    (EX_SOFTWARE of `sysexits.h`)."""
    OUT_OF_MEMORY = 71
    """The memory of the device, or main memory, could not be allocated (EX_OSERR of `sysexits.h`). A process that the
    kernel's OOM killer ended reports SIGKILL instead."""
    UNAVAILABLE = 75
    """The network, the store or the hub failed, and a retry may succeed (EX_TEMPFAIL of `sysexits.h`)."""
    STOPPED = 143
    """SIGTERM came, and a retry continues from a checkpoint (128 + 15, as a shell reports it)."""


def status_of(error: BaseException) -> ExitStatus:
    """Returns the exit status for a process that ends with `error`."""
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
        or type(error).__name__ == _CUDA_MEMORY_ERROR
        or any(message in str(error) for message in _MEMORY_MESSAGES)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def write_error_file(path: Path, error: BaseException) -> None:
    """Writes the error with which this process ends to a file, for the process that started it."""
    # A class that is defined outside `miniml.errors` is written as its base.
    kinds = (kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    ours = next(kinds, "")
    message = str(error) if ours else f"{type(error).__name__}: {error}"
    path.write_text(json.dumps({"error": ours, "message": message}), encoding="utf-8")


def read_error_file(path: Path) -> MinimlError | None:
    """Returns the error that `write_error_file` wrote; None if there is none, as after a process was killed."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind: type[MinimlError] = getattr(errors, written["error"] or TrainingProcessError.__name__)
    return kind(written["message"])
