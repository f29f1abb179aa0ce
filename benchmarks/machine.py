"""What a benchmark's figures hold for."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from miniml.processor import FEATURES, features, is_capped


def described(*libraries: str) -> dict[str, Any]:
    """Processor, its kind and features, cores, Python, the libraries' versions and today."""
    return {
        "processor": f"{processor()} ({_features()})",
        "kind": kind(),
        "features": list(features()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": ", ".join(f"{library} {version(library)}" for library in libraries),
        "date": datetime.now(UTC).date().isoformat(),
    }


def kind() -> str:
    """Returns the kind of processor that figures hold for: its best feature, and whether that is by a cap."""
    best = next(iter(features()), platform.machine())
    return f"{best} (capped)" if is_capped() else best


def _features() -> str:
    """Returns the features that this run sees, and those that the processor has but the environment hides."""
    seen = features()
    capabilities = torch.cpu.get_capabilities()
    hidden = [name for name in FEATURES if capabilities.get(name) and name not in seen]
    return ", ".join(seen or ["no known features"]) + (f"; a cap hides {', '.join(hidden)}" if hidden else "")


def in_a_process(module: str, *words: str, **environment: str) -> dict[str, Any]:
    """What `python -m module` prints as its last line, a JSON object: its memory is its own, and ends with it."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def peak_mib() -> float:
    """The most memory that this process has had (maximum resident set)."""
    status = Path("/proc/self/status")
    if status.exists():
        # What `getrusage` tells begins with what the parent had when it forked.
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert found, "Linux tells every process's own peak"
        return int(found[1]) / 1024
    # In bytes, as macOS has it.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def processor() -> str:
    """The processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor()
