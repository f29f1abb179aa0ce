"""Compiles the pipelines and their components to the YAML that is committed and part of the wheel.

python -m pipelines compile
"""

from __future__ import annotations

import os
from pathlib import Path

from kfp import compiler
from kfp.dsl.base_component import BaseComponent

from miniml.command_line import CommandParser
from miniml.kubeflow.workflow_size import describe_size
from miniml.pipeline.compiled import file_name
from pipelines.form import stages_of
from pipelines.hyperparameter_search import hyperparameter_search
from pipelines.text_classification import text_classification

COMPILED = Path(__file__).parent / "compiled"
_PIPELINES = (text_classification, hyperparameter_search)


def main() -> None:
    """Runs the command line."""
    parser = CommandParser(prog="python -m pipelines", description="Compiles the pipelines' Python.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    compiling = commands.add_parser("compile", help="write the pipelines and their components as YAML")
    compiling.add_argument(
        "--folder", type=Path, default=COMPILED, help=f"the folder to write to ({COMPILED})"
    )
    folder: Path = parser.parse_args().folder
    for pipeline in _PIPELINES:
        path = _compile(pipeline, folder / f"{file_name(pipeline.name)}.yaml")
        print(f"{os.path.relpath(path)} ({describe_size(path.read_text(encoding='utf-8'))})")
    stages = {stage.name: stage for pipeline in _PIPELINES for stage in stages_of(pipeline)}
    for name, stage in stages.items():
        print(os.path.relpath(_compile(stage, folder / "components" / f"{name}.yaml")))


def _compile(component: BaseComponent, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(component, str(path))
    return path


if __name__ == "__main__":
    main()
