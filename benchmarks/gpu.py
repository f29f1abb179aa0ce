"""`make bench-gpu`: training beside the Trainer's own and serving, on a GPU, within 8 minutes.

With `--device cpu --quick` the same script runs on tiny models, to be tried where there is no GPU; it writes no page.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import results
from benchmarks.gpu_page import gpu_section, write_gpu_page
from benchmarks.gpu_tasks import BATCH, COMPILED, TASKS, Clients, Task, quick
from benchmarks.machine import described
from miniml.errors import InputError
from miniml.processor import name as processor_name
from miniml.processor import usable_processors
from miniml.training.device import choose_device

WAYS = "benchmarks.gpu_ways"
# With less time left, a training would hardly get beyond its imports.
LEAST_S = 30.0
# Two starts of the engines, one of them the server's, and the load.
SERVING_S = 100.0


class Budget:
    """The time that is left for a measurement."""

    def __init__(self, minutes: float) -> None:
        self._began, self._seconds = time.monotonic(), 60 * minutes

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds until the end; infinite where there is none."""
        return self._seconds - self.spent


@dataclass
class Trainings:
    """The trainings of one call, each in a process of its own."""

    device: str
    scratch: Path
    """A folder with the dataset of each task, by its key."""
    encoders: dict[bool, Path]
    """The folders of the pretrained encoder (True) and of the random one."""
    budget: Budget
    points: list[dict[str, Any]] = field(default_factory=list)
    """The figures of those that have ended."""
    left_out: list[str] = field(default_factory=list)
    """Those that there was no time for."""
    failed: list[str] = field(default_factory=list)
    """Those that ended with an error, and their exit status."""

    def run(self, task: Task, way: str, keep: float = 0.0) -> None:
        """Trains one way, within the time that is left.

        Args:
            task: The model and its texts.
            way: One of the task's ways.
            keep: The seconds to leave for what comes after.
        """
        seconds, name = self.budget.left - keep, f"{task.name}, {way}"
        if seconds < LEAST_S:
            self.left_out.append(name)
            return
        try:
            figures = figures_of(self._job(task, way), seconds)
        except subprocess.TimeoutExpired:
            self.left_out.append(name)
            return
        except subprocess.CalledProcessError as failed:
            # It has printed its error itself.
            self.failed.append(f"{name} (exit status {failed.returncode})")
            return
        self.points.append({"task": task.name, "way": way, "samples": task.samples[way], **figures})
        print(f"{task.name:<32} {way:<10} {figures['samples_per_second']:10,.1f} texts/s", flush=True)

    def _job(self, task: Task, way: str) -> dict[str, Any]:
        return {
            "task": asdict(task),
            "way": way,
            "device": self.device,
            "model_id": str(self.encoders[task.pretrained]),
            "dataset": str(self.scratch / task.key / "dataset"),
            "folder": str(self.scratch / task.key / way),
        }


def figures_of(job: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Returns what a training found.

    Args:
        job: What `benchmarks.gpu_ways` is to train.
        seconds: The seconds that it may take.

    Raises:
        TimeoutExpired: it took longer, and was ended.
        CalledProcessError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", WAYS, json.dumps(job)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=None if math.isinf(seconds) else seconds,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(device: str, tasks: tuple[Task, ...], clients: Clients, minutes: float, tiny: bool) -> Any:
    """Measures every way of every task, and serving, while there is time; compiling, which may take long, comes last.

    Args:
        device: The device's name.
        tasks: What to train; the first one's model is served.
        clients: The load of the server.
        minutes: The minutes for all of it.
        tiny: Whether to train tiny models in place of the tasks' own.
    """
    # Only here: it brings in all libraries, and without a GPU there is nothing to wait for.
    from benchmarks import gpu_ways

    chosen, budget = choose_device(device), Budget(minutes)
    with tempfile.TemporaryDirectory(prefix="miniml-") as name:
        scratch = Path(name)
        random = gpu_ways.write_encoder(scratch / "random", tiny=tiny)
        encoders = {True: random if tiny else gpu_ways.pretrained_encoder(), False: random}
        trainings = Trainings(device, scratch, encoders, budget)
        ways = [(task, way) for task in tasks for way in task.samples]
        for task in tasks:
            gpu_ways.write_dataset(task, scratch / task.key / "dataset")
        for task, way in ways:
            if way != COMPILED:
                trainings.run(task, way, keep=SERVING_S)
        served, model = None, scratch / tasks[0].key / "miniml"
        if model.exists() and budget.left >= SERVING_S:
            try:
                served = gpu_ways.serve(model, clients, usable_processors(torch.get_num_threads()))
            except InputError as error:
                trainings.failed.append(f"serving ({error})")
        else:
            trainings.left_out.append("serving")
        for task, way in ways:
            if way == COMPILED:
                trainings.run(task, way)
    return {
        "machine": described("torch", "transformers", "accelerate"),
        "device": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else processor_name(),
        "cuda": torch.version.cuda,
        "command": "make bench-gpu",
        "batch": BATCH,
        "seconds": budget.spent,
        "points": trainings.points,
        "serving": served,
        "left_out": trainings.left_out,
        "failed": trainings.failed,
    }


def main() -> int:
    """Measures, and writes the section of this GPU; returns 1 where there is none."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="the device: cuda, cuda:1, or cpu with --quick")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which what is left is left out")
    parser.add_argument("--quick", action="store_true", help="try the script on tiny models; writes no page")
    parser.add_argument("--render-only", action="store_true", help="write the page from the last result")
    options = parser.parse_args()
    if options.render_only:
        write_gpu_page(results.last("gpu"))
        return 0
    try:
        chosen = choose_device(options.device)
    except InputError as error:
        print(
            f"error: {error} This benchmark measures a GPU; --device cpu --quick tries it.", file=sys.stderr
        )
        return 1
    if options.quick:
        tasks = (quick(TASKS[0]),)
        found = measure(options.device, tasks, Clients((1, 4), 0.5, 40), math.inf, tiny=True)
        print(gpu_section(found))
        return 0
    if chosen.type != "cuda":
        print(f"error: {chosen} is no GPU, and all of it would take hours; give --quick.", file=sys.stderr)
        return 1
    results.keep("gpu", measure(options.device, TASKS, Clients(), options.minutes, tiny=False))
    write_gpu_page(results.last("gpu"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
