"""The command line of a pipeline: compile it, or run it here.

The pipeline's own arguments become options, with its own defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

import kfp.local
from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from components import deploy, evaluate, gate, preflight, train, transform
from miniml.errors import MinimlError
from miniml.progress import duration
from pipelines import cluster_commands, local
from pipelines.arguments import add_arguments, arguments_of, check_sources, check_values
from pipelines.ask import Serving, ask, serving_command, serving_in_a_process
from pipelines.presets import PRESETS

COMPILED = Path(__file__).parent / "compiled"
COMPONENTS = (preflight, transform, train, evaluate, gate, deploy)

RUNNERS = ("subprocess", "docker")


def main(pipeline: GraphComponent, words: list[str] | None = None) -> None:
    """Does what the command line says; an error that miniml raised ends it with its message and status 1."""
    options = _parser(pipeline).parse_args(words)
    try:
        options.command(pipeline, options)
    except MinimlError as error:
        _fail(f"\nerror: {error}")
    except OSError as error:  # A full disk, or a folder that may not be written.
        _fail(f"\nerror: {error}. Free some space, or keep runs elsewhere: --outputs.")
    except KeyboardInterrupt:
        _fail("\nstopped")


def _parser(pipeline: GraphComponent) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.text_classification", description=pipeline.description
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    compiling = commands.add_parser("compile", help="write the pipeline and its components as YAML")
    compiling.add_argument("--folder", type=Path, default=COMPILED)
    compiling.set_defaults(command=_compile)

    running = commands.add_parser(
        "run",
        help="run it on this machine, serve the model for a moment and ask it",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    running.add_argument("--ask", action="append", metavar="TEXT", help="a text to ask the served model")
    running.add_argument(
        "--runner",
        choices=RUNNERS,
        default=RUNNERS[0],
        help="where the stages run: here, or in containers here",
    )
    running.add_argument("--outputs", type=Path, default=local.OUTPUTS, help="where runs are kept")
    add_arguments(running, pipeline)
    running.set_defaults(command=_run)

    serving = commands.add_parser("serve", help="serve the newest model of a local run until Ctrl-C")
    serving.add_argument("--port", type=int, default=8080)
    serving.add_argument("--outputs", type=Path, default=local.OUTPUTS, help="where runs are kept")
    serving.set_defaults(command=_serve)

    cluster_commands.add(commands, pipeline)
    return parser


def _compile(pipeline: GraphComponent, options: argparse.Namespace) -> None:
    for name, component in _compiled(pipeline).items():
        path = options.folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        compiler.Compiler().compile(component, str(path))
        print(os.path.relpath(path))


def _compiled(pipeline: GraphComponent) -> dict[str, Any]:
    """The pipeline and, for other people's pipelines, each of its components, by the names of their files."""
    stages = {module.__name__.rpartition(".")[2]: module for module in COMPONENTS}
    return {
        pipeline.name.replace("-", "_"): pipeline,
        **{f"components/{name}": getattr(module, name) for name, module in stages.items()},
    }


def _run(pipeline: GraphComponent, options: argparse.Namespace) -> None:
    start = time.monotonic()
    arguments = arguments_of(pipeline, options)
    check_values(arguments)
    check_sources(arguments)
    machine, serving = _machine(options.runner, arguments)
    print(f"miniml: {arguments['model_id']} on {arguments['dataset_id']}", flush=True)
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        compiled = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(compiled))
        finished = local.run(compiled, arguments, machine, outputs=options.outputs)
    local.gather(finished)
    answers = _answers(finished, arguments, options, serving) if finished.approved else []
    summary = local.summarise(finished, arguments, answers, time.monotonic() - start)
    latest = local.publish(finished, summary, options.outputs)
    _tell(summary, latest)


def _machine(runner: str, arguments: dict[str, Any]) -> tuple[local.Machine, Serving]:
    """What runs the stages, and what serves the model, here or in containers."""
    environment = _environment()
    if runner == "subprocess":
        os.environ.update(environment)  # The stages' processes inherit it.
        return local.Machine(kfp.local.SubprocessRunner(use_venv=False)), serving_in_a_process
    from pipelines import containers  # Only here: it needs the Docker client.

    images = containers.require_images()
    return local.Machine(containers.runner(arguments, environment), images), containers.serving


def _environment() -> dict[str, str]:
    """For the stages; what the user has set stays."""
    settings = {
        # Bars and advice that would drown what we say.
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "true",
        # glibc gives large blocks back to the kernel when they are freed and has them zeroed again at the next
        # step. Keeping them takes about 6 % off a training step (8 texts of 220 tokens, MiniLM).
        "MALLOC_MMAP_THRESHOLD_": "2000000000",
        "MALLOC_TRIM_THRESHOLD_": "8000000000",
    }
    return {name: os.environ.get(name, value) for name, value in settings.items()}


def _answers(
    finished: local.LocalRun, arguments: dict[str, Any], options: argparse.Namespace, serving: Serving
) -> list[dict[str, Any]]:
    print("serving the model, and asking it over HTTP", flush=True)
    begin = time.monotonic()
    questions = options.ask or (PRESETS[options.preset].questions if options.preset else [])
    texts = questions or _two_test_rows(finished)
    answers = ask(serving, Path(finished.model.path), arguments["service_name"], texts)
    finished.seconds["serve"] = round(time.monotonic() - begin, 1)
    return answers


def _two_test_rows(finished: local.LocalRun) -> list[str]:
    from miniml import data  # Only here: it brings in the datasets library.

    splits, _ = data.load(Path(finished.dataset.path), ("test",))
    return [str(text) for text in splits["test"][:2]["text"]]


def _tell(summary: dict[str, Any], latest: Path) -> None:
    for answer in summary["predictions"]:
        text = answer["text"] if len(answer["text"]) <= 90 else answer["text"][:89] + "…"
        shares = ", ".join(f"{label} {share:.3f}" for label, share in answer["probabilities"].items())
        print(f'        "{text}"\n          -> {answer["label"]} ({shares})')
    low, high = summary["accuracy_interval"]
    manifest = latest / "inference_service.yaml" if summary["manifest"] else "none: the model is not deployed"
    print(
        f"\n{summary['verdict']}: {'; '.join(summary['reasons'])}\n"
        f"accuracy   {summary['accuracy']:.3f} (95 % interval {low:.3f} to {high:.3f}, {summary['test_rows']:,} rows)\n"
        f"report     {latest / 'report.html'}\n"
        f"model      {latest / 'model'}\n"
        f"manifest   {manifest}\n"
        f"summary    {latest / 'summary.json'}\n"
        f"in {duration(summary['seconds']['total'])}"
    )


def _serve(pipeline: GraphComponent, options: argparse.Namespace) -> None:
    """Becomes the predictor, so that Ctrl-C and signals reach it without a go-between."""
    latest = local.latest(options.outputs)
    name = json.loads((latest / "summary.json").read_text(encoding="utf-8"))["service_name"]
    words = serving_command(latest / "model", name, options.port)
    os.execv(words[0], words)  # noqa: S606 - a list of words of our own making


def _fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(1)
