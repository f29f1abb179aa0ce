"""Runs a whole job on this machine: the pipeline, its model served for a moment, and a summary of the results."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miniml.files.folders import caches_of_libraries
from miniml.local import runner as local
from miniml.local.ask import Serving, ask, serving_in_a_process
from miniml.pipeline.arguments import check_sources, check_values
from miniml.pipeline.compiled import CompiledPipeline
from miniml.progress import INTERVAL
from miniml.settings.arguments import as_inputs

RUNNERS = ("subprocess", "docker")


@dataclass(frozen=True)
class FinishedJob:
    """The results of a job on this machine."""

    summary: dict[str, Any]
    """The content of summary.json."""
    folder: Path
    """The folder of the newest run, with report, model, InferenceService and summary."""


def run(
    pipeline: CompiledPipeline,
    arguments: dict[str, Any],
    *,
    runner: str = RUNNERS[0],
    outputs: Path = local.OUTPUTS,
    questions: list[str],
) -> FinishedJob:
    """Runs a pipeline, and asks its model over HTTP if the gate approved it.

    Args:
        pipeline: The pipeline.
        arguments: All of its arguments by name.
        runner: One of `RUNNERS`: "subprocess" or, for stages in containers, "docker".
        outputs: The folder of runs.
        questions: Texts for the served model; without any, two test rows are used.

    Raises:
        MinimlError: An argument cannot be used, a stage failed, or the model does not answer.
    """
    start = time.monotonic()
    check_values(arguments)
    check_sources(arguments)
    machine, serving = _machine(runner, arguments, outputs)
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        compiled = Path(scratch) / "pipeline.yaml"
        compiled.write_text(pipeline.text, encoding="utf-8")
        finished = local.run(compiled, as_inputs(arguments), machine, outputs=outputs)
    local.gather(finished)
    answers = _answers(finished, serving, arguments["service_name"], questions) if finished.approved else []
    summary = local.summarise(finished, arguments, answers, time.monotonic() - start)
    return FinishedJob(summary, local.publish(finished, summary, outputs))


def _machine(runner: str, arguments: dict[str, Any], outputs: Path) -> tuple[local.Machine, Serving]:
    """Returns the environment of the stages, and the function that serves the model, for a runner."""
    environment = _environment()
    if runner == "subprocess":
        import kfp.local  # Only here: it takes half a second, and most commands run nothing.

        os.environ.update(caches_of_libraries() | environment)  # The processes of the stages inherit these.
        return local.Machine(kfp.local.SubprocessRunner(use_venv=False)), serving_in_a_process
    from miniml.local import containers  # Only here: it needs the Docker client.

    return containers.machine(arguments, environment, local.runs_of(outputs)), containers.serving


def _environment() -> dict[str, str]:
    """Returns environment variables for the stages; the user's own values win."""
    settings = {
        # Progress bars and advice of libraries would bury the messages of miniml.
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "true",
        # The console redraws passing lines in place.
        INTERVAL: "1",
        # glibc returns large blocks to the kernel when they are freed, and the kernel zeroes them for the next step.
        # Keeping them makes a training step about 6 % shorter (8 texts of 220 tokens, MiniLM).
        "MALLOC_MMAP_THRESHOLD_": "2000000000",
        "MALLOC_TRIM_THRESHOLD_": "8000000000",
    }
    return {name: os.environ.get(name, value) for name, value in settings.items()}


def _answers(
    finished: local.LocalRun, serving: Serving, name: str, questions: list[str]
) -> list[dict[str, Any]]:
    print("serving the model, and asking it over HTTP", flush=True)
    begin = time.monotonic()
    answers = ask(serving, finished.model, name, questions or _two_test_rows(finished))
    finished.seconds["serve"] = round(time.monotonic() - begin, 1)
    return answers


def _two_test_rows(finished: local.LocalRun) -> list[str]:
    from miniml.data import prepared  # Only here: it imports the datasets library.

    splits, _ = prepared.load(Path(finished.outputs["dataset"].path), ("test",))
    return [str(text) for text in splits["test"][:2]["text"]]
