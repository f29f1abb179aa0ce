"""Runs miniml's command line as a person does, in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests import patience

ROOT = Path(__file__).parents[1]


def tool(name: str) -> str | None:
    """The path of a program: the one that the environment of these tests has, or else the machine's."""
    beside_python = Path(sys.executable).with_name(name)
    return str(beside_python) if beside_python.exists() else shutil.which(name)


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str


def pipeline(*words: str | Path, module: str = "text_classification", **environment: str) -> Ended:
    """`miniml WORDS`, or of the pipeline in that other module `miniml search WORDS`."""
    group = ["search"] if module == "hyperparameter_search" else []
    done = subprocess.run(
        [sys.executable, "-m", "miniml", *group, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
