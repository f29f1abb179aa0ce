"""The nodes of a TrainJob as real processes on this machine, each started as Trainer's runtime for PyTorch starts it.

One that fails is started again, and one that is taken away is told to end (SIGTERM) and replaced, as JobSet and
Kubernetes do with their pods: kubeflow/trainer v2.3.0 has no failure policy in its runtime torch-distributed
(manifests/base/runtimes/torch_distributed.yaml), and so all is left to the Job that JobSet makes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miniml.exit_status import TERMINATION_LOG
from tests.command import ROOT
from tests.ports import free_port
from tests.s3_server import WRITER
from tests.trainer_server import Log, TrainerServer

BACKOFF_LIMIT = 6
"""Restarts of a Job's containers after which it fails, where nobody sets it (Kubernetes, batch/v1, JobSpec)."""


@dataclass
class TrainerNodes:
    """The fate of a TrainJob: its nodes run to their end."""

    folder: Path
    """For what they write: each node has a disk of its own."""
    taken_away: Callable[[], int | None] = lambda: None
    """Looked at while they run: the rank of a node to take away now, if any."""
    _running: dict[int, subprocess.Popen[str]] = field(default_factory=dict)
    _logs: dict[int, threading.Thread] = field(default_factory=dict)
    _port: int = field(default_factory=free_port)

    def __call__(self, server: TrainerServer, job: dict[str, Any]) -> Iterator[None]:
        pods = dict(enumerate(server.start(job)))
        for rank, pod in pods.items():
            self._start(server, job, rank, pod)
        leaving: set[int] = set()
        while any(_code(pod) != 0 for pod in pods.values()):
            yield
            if (taken := self.taken_away()) is not None:
                leaving.add(taken)
                self._running[taken].terminate()
            for rank, process in list(self._running.items()):
                if process.poll() is None:
                    continue
                del self._running[rank]
                self._logs[rank].join()
                message = self._termination_log(rank)
                server.end(
                    pods[rank], process.returncode, message=message.read_text() if message.exists() else ""
                )
                message.unlink(missing_ok=True)
                if rank in leaving:
                    leaving.remove(rank)
                    pods[rank] = server.replace(pods[rank])
                elif process.returncode:
                    yield  # As it is seen before the kubelet starts it again.
                    server.start_again(pods[rank])
                else:
                    continue
                self._start(server, job, rank, pods[rank])
            if sum(_restarts(pod) for pod in pods.values()) >= BACKOFF_LIMIT:
                self.end()
                server.pods = []
                server.set_condition(
                    job, "Failed", "FailedJobs", "jobset failed due to one or more job failures"
                )
                yield
                return
        yield
        server.set_condition(job, "Complete", "JobsCompleted", "jobset completed successfully")
        yield

    def end(self) -> None:
        """Kills those that still run."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def _start(self, server: TrainerServer, job: dict[str, Any], rank: int, pod: dict[str, Any]) -> None:
        trainer, secret = job["spec"]["trainer"], self.folder / "secret"
        secret.mkdir(exist_ok=True)
        for name, key in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), WRITER, strict=True):
            (secret / name).write_text(key)
        given = {entry["name"]: entry["value"] for entry in trainer["env"]}
        left_out = ("AWS_", "OMP_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        environment |= given | {
            "MINIML_S3_SECRET": str(secret),  # Where the job says is not ours to mount, or to write to.
            TERMINATION_LOG: str(self._termination_log(rank)),
            "MINIML_CACHE": str(self.folder / f"node-{rank}"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PET_NNODES": str(trainer["numNodes"]),
            "PET_NPROC_PER_NODE": "auto",
            "PET_NODE_RANK": str(rank),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(self._port),
        }
        process = subprocess.Popen(
            [*trainer["command"], *trainer["args"]],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._running[rank] = process
        self._logs[rank] = threading.Thread(target=_keep_log, args=(process, server.log_of(pod)), daemon=True)
        self._logs[rank].start()

    def _termination_log(self, rank: int) -> Path:
        return self.folder / f"termination-log-{rank}"


def _code(pod: dict[str, Any]) -> int | None:
    (status,) = pod["status"]["containerStatuses"]
    code: int | None = status["state"].get("terminated", {}).get("exitCode")
    return code


def _restarts(pod: dict[str, Any]) -> int:
    (status,) = pod["status"]["containerStatuses"]
    return int(status["restartCount"])


def _keep_log(process: subprocess.Popen[str], log: Log) -> None:
    assert process.stdout
    with process.stdout as lines:
        for line in lines:
            log.write(line.rstrip("\n"))
