"""Connects the processes that train together, as torchrun started them, by collective operations."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from miniml.errors import InputError
from miniml.processor import usable_processors
from miniml.settings.training import TrainingSettings

Value = TypeVar("Value")

_SECONDS_TO_CONNECT = 30


@dataclass(frozen=True)
class Processes:
    """The number of processes and of nodes, and the rank of this process among them."""

    count: int = 1
    rank: int = 0
    """Only the process of rank 0 writes files, signs the model and prints."""
    nodes: int = 1
    node: int = 0

    @classmethod
    def started(cls) -> Processes:
        """Reads torchrun's environment variables; without them, this is the only process."""
        variables = {"count": "WORLD_SIZE", "rank": "RANK", "nodes": "GROUP_WORLD_SIZE", "node": "GROUP_RANK"}
        return cls(
            **{field: int(os.environ[name]) for field, name in variables.items() if name in os.environ}
        )

    @property
    def first(self) -> bool:
        """Whether this is the process of rank 0."""
        return self.rank == 0

    def share_of(self, settings: TrainingSettings) -> int:
        """Returns the number of texts of an optimizer step for each process.

        Raises:
            InputError: the processes cannot share a batch evenly, or the number of nodes is not that of the settings.
        """
        if settings.num_nodes != self.nodes:
            raise InputError(
                f"num_nodes is {settings.num_nodes}, but this was started on {self.nodes}. Start it with torchrun "
                f"--nnodes {settings.num_nodes} on each of them; on a cluster, the train step does so."
            )
        if settings.batch_size % self.count:
            raise InputError(
                f"batch_size is {settings.batch_size}, and {self.count} processes cannot share it evenly. Give a "
                f"multiple of {self.count}."
            )
        return settings.batch_size // self.count

    def init_process_group(self, device: torch.device) -> None:
        """Connects the processes. All must call this, and the collective operations below, in the same order."""
        if self.count > 1:
            # Without this variable, accelerate takes as many threads as the node has processors, and warns.
            os.environ.setdefault("OMP_NUM_THREADS", str(usable_processors(torch.get_num_threads())))
            PartialState(cpu=device.type == "cpu")  # The Trainer uses this state.

    def all_reduce_max(self, number: float) -> float:
        """Returns the largest of the processes' numbers."""
        return self._reduced(number, dist.ReduceOp.MAX)

    def all_reduce_mean(self, number: float) -> float:
        """Returns the mean of the processes' numbers."""
        return self._reduced(number, dist.ReduceOp.SUM) / self.count

    def _reduced(self, number: float, operation: Any) -> float:
        if self.count == 1:
            return number
        numbers = torch.tensor(number, dtype=torch.float32, device=PartialState().device)
        dist.all_reduce(numbers, operation)
        return numbers.item()

    def all_gather(self, value: Value) -> list[Value]:
        """Returns the value of each process, by rank."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Value | None) -> Value:
        """Returns the value of the process of rank 0; the others wait for it."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values, device=PartialState().device)
        assert values[0] is not None
        return values[0]

    def record_failure(self, reason: str) -> None:
        """Writes the reason of this process's failure into the file that torchrun reads, if torchrun started it.

        The format is that of `torch.distributed.elastic.multiprocessing.errors.ProcessFailure`.
        """
        if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
            failure = {"message": reason, "timestamp": str(int(time.time()))}
            Path(path).write_text(json.dumps(failure), encoding="utf-8")

    def may_speak(self) -> bool:
        """Tells whether this process failed first on its node. The others fail because of it, and print nothing."""
        if self.count == 1:
            return True
        # If torchrun itself has ended, every process may print its error.
        with suppress(RuntimeError, KeyError):
            store = dist.TCPStore(  # type: ignore[attr-defined]  # it is documented
                os.environ["MASTER_ADDR"],
                int(os.environ["MASTER_PORT"]),
                is_master=False,
                timeout=timedelta(seconds=_SECONDS_TO_CONNECT),
            )
            return store.add(f"miniml/failed/{self.node}", 1) == 1
        return True


ALONE = Processes()
"""The only process, not started by torchrun."""
