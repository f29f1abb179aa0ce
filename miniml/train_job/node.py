"""One node of a training on several: torchrun, which here ends as its processes ended.

python -m miniml.train_job.node 2 DATASET MODEL --batch-size=16

The program `torchrun` ends with status 1 whatever its processes end with, and so it does when it is told to end (torch
2.13, torch/distributed/run.py: its exception goes up). Who follows a node could not tell a wrong argument from a node
that was taken away.
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
"""What torchrun has for the file of a process that left none."""


def main(words: list[str]) -> None:
    """Trains in so many processes as the first word says, with the rest as `python -m miniml.train_step` has it.

    Ends with the status of the process that says most of why they failed: one that names its error before one that only
    lost another.
    """
    processes, *arguments = words
    # torchrun would set 1 for several processes, and warn of it.
    threads = max(1, usable_processors(torch.get_num_threads()) // int(processes))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    try:
        run.main([f"--nproc-per-node={processes}", "--module", "miniml.train_step", *arguments])
    except ChildFailedError as error:
        telling = min(error.failures.values(), key=lambda failure: _order(_status(failure)))
        if telling.error_file != _NOT_WRITTEN:
            _leave(telling.message)
        sys.exit(_status(telling))
    except SignalException:
        sys.exit(ExitStatus.STOPPED)  # Its processes have ended by now, or were killed for taking too long.
    except Exception:  # mostly another node that does not answer
        traceback.print_exc()
        sys.exit(ExitStatus.UNFORESEEN)


def _status(failure: ProcessFailure) -> int:
    """As a shell has it: 128 and the signal, for a process that ended by one."""
    return failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode


def _order(status: int) -> tuple[bool, int]:
    """The errors that have a name come first."""
    return status == ExitStatus.UNFORESEEN, status


def _leave(reason: str) -> None:
    if path := os.environ.get(TERMINATION_LOG):
        # Cut between two characters: a pod's status takes UTF-8 and nothing else.
        cut = reason.encode(errors="replace")[:_BYTES].decode(errors="ignore")
        Path(path).write_text(cut, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
