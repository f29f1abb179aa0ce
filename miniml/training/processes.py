"""The processes that train together, as torchrun started them: which of them this is, and what only one may do."""

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

Thing = TypeVar("Thing")

_SECONDS_TO_CONNECT = 30


@dataclass(frozen=True)
class Processes:
    """All of them, and this one's place among them."""

    count: int = 1
    rank: int = 0
    """The first one, 0, alone writes, signs and speaks."""
    nodes: int = 1
    node: int = 0

    @classmethod
    def started(cls) -> Processes:
        """As torchrun says in the environment; just this one where it did not start it."""
        names = {"count": "WORLD_SIZE", "rank": "RANK", "nodes": "GROUP_WORLD_SIZE", "node": "GROUP_RANK"}
        return cls(**{ours: int(os.environ[its]) for ours, its in names.items() if its in os.environ})

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share_of(self, settings: TrainingSettings) -> int:
        """The texts of an optimizer step that each process takes.

        Raises:
            InputError: they cannot be shared evenly, or there are other nodes than the settings say.
        """
        if settings.num_nodes != self.nodes:
            raise InputError(
                f"num_nodes is {settings.num_nodes}, but this was started on {self.nodes}. Start it with torchrun "
                f"--nnodes {settings.num_nodes} on each of them, or, on a cluster, let the train step do so."
            )
        if settings.batch_size % self.count:
            raise InputError(
                f"batch_size is {settings.batch_size}, and {self.count} processes cannot share it evenly. Give a "
                f"multiple of {self.count}."
            )
        return settings.batch_size // self.count

    def init_process_group(self, device: torch.device) -> None:
        """Connects them, before they have anything to tell each other; all must call this, as all that follows."""
        if self.count > 1:
            # Unless this says something, accelerate takes as many threads as the node has processors, and warns.
            os.environ.setdefault("OMP_NUM_THREADS", str(usable_processors(torch.get_num_threads())))
            PartialState(cpu=device.type == "cpu")  # The Trainer finds it, and has no other.

    def all_reduce_max(self, number: float) -> float:
        """The largest of the numbers that they have."""
        return self._reduced(number, dist.ReduceOp.MAX)

    def all_reduce_mean(self, number: float) -> float:
        """Of the number that each of them has."""
        return self._reduced(number, dist.ReduceOp.SUM) / self.count

    def _reduced(self, number: float, operation: Any) -> float:
        if self.count == 1:
            return number
        numbers = torch.tensor(number, dtype=torch.float32, device=PartialState().device)
        dist.all_reduce(numbers, operation)
        return numbers.item()

    def all_gather(self, thing: Thing) -> list[Thing]:
        """What each of them has, by rank."""
        things = [thing] * self.count
        if self.count > 1:
            dist.all_gather_object(things, thing)
        return things

    def broadcast(self, thing: Thing | None) -> Thing:
        """What the first process has; the others wait for it."""
        told = [thing]
        if self.count > 1:
            dist.broadcast_object_list(told, device=PartialState().device)
        assert told[0] is not None
        return told[0]

    def record_failure(self, reason: str) -> None:
        """Writes why this process fails to where torchrun looks for it, if torchrun started it.

        The form is that of `torch.distributed.elastic.multiprocessing.errors.ProcessFailure`.
        """
        if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
            failure = {"message": reason, "timestamp": str(int(time.time()))}
            Path(path).write_text(json.dumps(failure), encoding="utf-8")

    def may_speak(self) -> bool:
        """Whether this process is the first of its node to fail: what the others fail with follows from that."""
        if self.count == 1:
            return True
        with suppress(RuntimeError, KeyError):  # Where torchrun itself is gone, everybody may.
            store = dist.TCPStore(  # type: ignore[attr-defined]  # it is documented
                os.environ["MASTER_ADDR"],
                int(os.environ["MASTER_PORT"]),
                is_master=False,
                timeout=timedelta(seconds=_SECONDS_TO_CONNECT),
            )
            return store.add(f"miniml/failed/{self.node}", 1) == 1
        return True


ALONE = Processes()
"""What a process is that torchrun did not start."""
