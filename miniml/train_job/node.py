"""Runs torchrun on one node of a distributed training, and ends with the exit status of its processes.

python -m miniml.train_job.node 2 DATASET MODEL --batch-size=16

The program `torchrun` ends with status 1 whatever its processes end with, and also after SIGTERM (torch 2.13,
torch/distributed/run.py does not catch the exception). That would hide whether an argument was wrong or another node
was lost.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import torch
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from miniml.exit_status import TERMINATION_LOG, ExitStatus
from miniml.processor import usable_processors

_BYTES = 4000  # Kubernetes reads 4,096.
_NOT_WRITTEN = "<N/A>"
"""The error file that torchrun reports for a process that wrote none."""


def main(words: list[str]) -> None:
    """Trains, and exits with the status of the process whose error explains the failure best.

    A process that names its error comes before one that only lost its connection to another.

    Args:
        words: The number of processes, then the arguments of `python -m miniml.train_step`.

    Raises:
        SystemExit: the training failed or was stopped; the code is an `ExitStatus`.
    """
    processes, *arguments = words
    # By default torchrun sets 1 for several processes, with a warning.
    threads = max(1, usable_processors(torch.get_num_threads()) // int(processes))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    try:
        run.main([f"--nproc-per-node={processes}", "--module", "miniml.train_step", *arguments])
    except ChildFailedError as error:
        decisive = min(error.failures.values(), key=lambda failure: _order(_status(failure)))
        if decisive.error_file != _NOT_WRITTEN:
            _write_termination_message(decisive.message)
        sys.exit(_status(decisive))
    except SignalException:
        sys.exit(ExitStatus.STOPPED)  # Its processes have ended, or were killed after a timeout.
    except Exception:  # Most often, another node does not answer.
        traceback.print_exc()
        sys.exit(ExitStatus.UNFORESEEN)


def _status(failure: ProcessFailure) -> int:
    """Returns the exit status as a shell does: 128 plus the signal if a signal ended the process."""
    return failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode


def _order(status: int) -> tuple[bool, int]:
    """Returns a sort key that puts errors with a known cause first."""
    return status == ExitStatus.UNFORESEEN, status


def _write_termination_message(reason: str) -> None:
    if path := os.environ.get(TERMINATION_LOG):
        # Cut between two characters, since a pod's status must be valid UTF-8.
        cut = reason.encode(errors="replace")[:_BYTES].decode(errors="ignore")
        Path(path).write_text(cut, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
