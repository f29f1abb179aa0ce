"""The command line of a pipeline: compile it, or run it here.

The pipeline's own arguments become options, with its own defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from kfp import compiler
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.graph_component import GraphComponent

from miniml.cli import cluster_commands, predict, run_commands
from miniml.command_line import CommandParser
from miniml.errors import MinimlError
from miniml.escaping import clipped, plain
from miniml.kubeflow.workflow_size import told as told_size
from miniml.local import job, runner
from miniml.local.ask import serving_command, told
from miniml.local.children import ended_with_us
from miniml.pipeline.arguments import add_arguments, given_arguments, preset_of
from miniml.pipeline.names import module_of, program_of
from miniml.pipeline.presets import PRESETS
from miniml.ports import HTTP_PORT
from miniml.progress import duration

COMPILED = Path(__file__).parents[2] / "pipelines" / "compiled"


def main(pipeline: GraphComponent, stages: Sequence[BaseComponent]) -> None:
    """Does what the command line says; an error that miniml raised ends it with its message and status 1.

    Args:
        pipeline: What the commands are about.
        stages: The components that it is made of, which are compiled beside it.
    """
    options = _parser(pipeline, stages).parse_args()
    try:
        options.command(pipeline, options)
    except MinimlError as error:
        _fail(f"\nerror: {error}")
    except BrokenPipeError:  # Whoever read our output has seen enough.
        os._exit(141)
    except OSError as error:  # A full disk, or a folder that may not be written.
        _fail(f"\nerror: {error}. Free some space, or keep runs elsewhere: --outputs.")
    except KeyboardInterrupt:
        _fail("\nstopped")


def _parser(pipeline: GraphComponent, stages: Sequence[BaseComponent]) -> argparse.ArgumentParser:
    parser = CommandParser(prog=program_of(pipeline), description=pipeline.description)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    compiling = commands.add_parser("compile", help="write the pipeline and its components as YAML")
    compiling.add_argument("--folder", type=Path, default=COMPILED)
    compiling.set_defaults(command=partial(_compile, stages))

    running = commands.add_parser(
        "run",
        help="run it on this machine, serve the model for a moment and ask it",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    running.add_argument("--ask", action="append", metavar="TEXT", help="a text to ask the served model")
    running.add_argument(
        "--runner",
        choices=job.RUNNERS,
        default=job.RUNNERS[0],
        help="where the stages run: here, or in containers here",
    )
    running.add_argument("--outputs", type=Path, default=runner.OUTPUTS, help="where runs are kept")
    running.add_argument(
        "--default-preset", default="", help="the preset where neither --preset nor --dataset-id is given"
    )
    add_arguments(running, pipeline)
    running.set_defaults(command=_run)

    serving = commands.add_parser("serve", help="serve the newest model of a local run until Ctrl-C")
    serving.add_argument(
        "--port", type=int, default=HTTP_PORT, help=f"for HTTP ({HTTP_PORT}); gRPC has the next"
    )
    serving.add_argument("--outputs", type=Path, default=runner.OUTPUTS, help="where runs are kept")
    serving.set_defaults(command=_serve)

    cluster_commands.add(commands, pipeline)
    run_commands.add(commands, pipeline)
    predict.add(commands)
    return parser


def _compile(stages: Sequence[BaseComponent], pipeline: GraphComponent, options: argparse.Namespace) -> None:
    """Writes the pipeline and, for other people's pipelines, each of its components."""
    files = {module_of(pipeline): pipeline, **{f"components/{stage.name}": stage for stage in stages}}
    for name, component in files.items():
        path = options.folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        compiler.Compiler().compile(component, str(path))
        size = f" ({told_size(path.read_text(encoding='utf-8'))})" if component is pipeline else ""
        print(f"{os.path.relpath(path)}{size}")


def _run(pipeline: GraphComponent, options: argparse.Namespace) -> None:
    arguments, preset = given_arguments(pipeline, options), preset_of(options)
    questions = options.ask or (PRESETS[preset].questions if preset else [])
    start = f"preset {preset}, " if preset else ""
    print(plain(f"miniml: {start}{arguments['model_id']} on {arguments['dataset_id']}"), flush=True)
    with ended_with_us():
        finished = job.run(
            pipeline, arguments, runner=options.runner, outputs=options.outputs, questions=questions
        )
    _tell(finished.summary, finished.folder)


def _tell(summary: dict[str, Any], latest: Path) -> None:
    for answer in summary["predictions"]:
        text = clipped(answer["text"], 90)
        print(plain(f'        "{text}"\n          -> {told(answer)}'))
    measure = summary["measure"]
    low, high = summary[f"{measure}_interval"]
    search = latest / "search_report.html"
    reasons = plain("\n".join(f"  {reason}" for reason in summary["reasons"]))
    manifest = latest / "inference_service.yaml" if summary["manifest"] else "none: the model is not deployed"
    print(
        f"\n{summary['verdict']}:\n{reasons}\n"
        f"{measure.replace('_', ' '):<10} {summary[measure]:.3f} (95 % interval {low:.3f} to {high:.3f}, "
        f"{summary['test_rows']:,} rows)\n"
        f"report     {latest / 'report.html'}\n"
        + (f"search     {search}\n" if search.exists() else "")
        + f"model      {latest / 'model'}\n"
        f"manifest   {manifest}\n"
        f"summary    {latest / 'summary.json'}\n"
        f"in {duration(summary['seconds']['total'])}"
    )


def _serve(pipeline: GraphComponent, options: argparse.Namespace) -> None:
    """Becomes the predictor, so that Ctrl-C and signals reach it without a go-between."""
    latest = runner.latest(options.outputs)
    name = json.loads((latest / "summary.json").read_text(encoding="utf-8"))["service_name"]
    words = [*serving_command(latest / "model", name, options.port), f"--grpc_port={options.port + 1}"]
    predict.LocalService(f"http://127.0.0.1:{options.port}", name, os.getpid()).write(options.outputs)
    os.execv(words[0], words)  # noqa: S606 - a list of words of our own making


def _fail(message: str) -> NoReturn:
    print(plain(message), file=sys.stderr)
    raise SystemExit(1)
