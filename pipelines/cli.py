"""The command line of a pipeline: compile it, or run it here.

The pipeline's own arguments become options, with its own defaults.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

import datasets
from kfp import compiler, dsl

from miniml.errors import MinimlError
from miniml.progress import duration
from miniml.settings import DataSettings, DeploymentSettings, GateSettings, TrainingSettings
from pipelines import local
from pipelines.ask import ask
from pipelines.presets import PRESETS

_TYPES = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": float}


def main(pipeline: dsl.base_component.BaseComponent, words: list[str] | None = None) -> None:
    """Does what the command line says; an error that miniml raised ends it with one message and status 1."""
    options = _parser(pipeline).parse_args(words)
    try:
        options.command(pipeline, options)
    except MinimlError as error:
        _fail(f"error: {error}")
    except KeyboardInterrupt:
        _fail("stopped")


def compile_to(pipeline: dsl.base_component.BaseComponent, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(pipeline, str(path))


def _fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(1)
