"""Runs a compiled pipeline on this machine, and collects its outputs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import requests

from miniml import environment
from miniml.errors import MinimlError
from miniml.evaluation.result import EvaluationResult
from miniml.local.console import Console
from miniml.model import manifest
from miniml.pipeline.compiled import as_run_here, stages_in_order

if TYPE_CHECKING:
    import kfp.local

OUTPUTS = Path(os.environ.get("MINIML_OUTPUTS", "local_outputs"))
"""The folder of runs, unless MINIML_OUTPUTS names another one."""

_EXECUTOR_OUTPUT = "executor_output.json"

SILENT_END = (
    "ended without a message, as a killed process does; the system's log (dmesg) says what killed it, and why"
)


class RunError(MinimlError):
    """A stage of a run failed; the message is the stage's own."""


GATHERED = {
    "report": "report.html",
    "data_report": "data_report.html",
    "training_report": "training_report.html",
    "search_report": "search_report.html",
    "compression_report": "compression_report.html",
    "metrics": "metrics.json",
    "search": "search.json",
    "predictions": "predictions.parquet",
}
"""The pipeline's outputs that are copied to the top of the run's folder, and their file names there."""


@dataclass(frozen=True)
class LocalRun:
    """A run that has succeeded."""

    folder: Path
    """The run's folder below local_outputs/runs."""
    outputs: dict[str, Any]
    """The pipeline's outputs by name, as kfp.local returns them."""
    seconds: dict[str, float]
    """The duration of each stage in seconds."""

    @property
    def model(self) -> Path:
        """The folder of the model that was evaluated: the smaller one, if there is one and it was not refused."""
        folders = [Path(self.outputs[name].path) for name in ("model", "compressed") if name in self.outputs]
        return manifest.folder_with(self.result.model_digest, folders)

    @property
    def result(self) -> EvaluationResult:
        """The evaluation."""
        return EvaluationResult.read(Path(self.outputs["metrics"].path))

    @property
    def approved(self) -> bool:
        """Whether the gate approved the model."""
        return bool(self.outputs["verdict"].metadata["verdict"] == "approved")

    @property
    def inference_service(self) -> Path | None:
        """The InferenceService as YAML; None where the gate rejected the model."""
        found = sorted(self.folder.glob("artifacts/*/deploy/inference_service"))
        return found[0] if found else None


@dataclass(frozen=True)
class Machine:
    """The environment in which kfp.local runs the stages."""

    runner: kfp.local.SubprocessRunner | kfp.local.DockerRunner
    images: str = ""
    """The digests of the containers' images; empty where none are used."""
    clean_up: Callable[[], None] = lambda: None
    """A function that is called after each run, even a failed one."""


def run(
    compiled: Path,
    arguments: dict[str, Any],
    machine: Machine,
    *,
    outputs: Path = OUTPUTS,
    screen: TextIO = sys.stdout,
) -> LocalRun:
    """Runs the compiled pipeline on this machine, one stage after the other.

    The outputs of stages whose arguments, code and sources have not changed come from the cache.

    Args:
        compiled: The pipeline's YAML file.
        arguments: The arguments, as the pipeline takes them.
        machine: The environment of the stages.
        outputs: The folder of runs.
        screen: Where the progress is shown.

    Raises:
        RunError: A stage failed, and `outputs`/latest stays as it was; or a file or folder has the name of that link.
    """
    import kfp.local  # Only here: it takes half a second, and most commands run nothing.
    from kfp import components

    _require_room_for_latest(outputs)
    folder = runs_of(outputs) / datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    folder.mkdir(parents=True)
    text = compiled.read_text(encoding="utf-8")
    pipeline = components.load_component_from_text(as_run_here(text))
    cache = outputs / "cache" / _cache_key(machine.images)
    _forget_false_successes(cache)
    kfp.local.init(
        runner=machine.runner,
        pipeline_root=str(folder / "artifacts"),
        enable_caching=True,
        cache_root=str(cache),
    )
    with _temporary_files_swept(), stdin_closed(), (folder / "run.log").open("w", encoding="utf-8") as log:
        console = Console(stages_in_order(text), screen, log)
        try:
            with _printing_to(console):
                task = pipeline(**arguments)
        except Exception as error:
            # Where a stage wrote no outputs, kfp or a later stage may fail with any message.
            if not isinstance(error, RuntimeError | requests.RequestException) and not _without_outputs(
                console, folder
            ):
                raise
            raise _explained(console, folder, error) from error
        finally:
            machine.clean_up()
    if _without_outputs(console, folder):
        raise _explained(console, folder)
    finished = LocalRun(folder, task.outputs, console.seconds)
    _require_deployed_if_approved(finished)
    console.show_skipped()
    return finished


def runs_of(outputs: Path) -> Path:
    """Returns the folder that holds the folders of all runs."""
    return outputs / "runs"


def summarise(
    finished: LocalRun, arguments: dict[str, Any], predictions: list[dict[str, Any]], total_seconds: float
) -> dict[str, Any]:
    """Returns the content of summary.json: the run's metrics, verdict, paths and durations.

    Args:
        finished: The run.
        arguments: The pipeline's arguments by name.
        predictions: The served model's answers, each with its text.
        total_seconds: The duration of the whole job in seconds.
    """
    result = finished.result
    rows = finished.outputs["dataset"].metadata["rows"]
    verdict = finished.outputs["verdict"].metadata
    service = finished.folder / "inference_service.yaml"
    return {
        "measure": result.task.primary_metric,
        result.task.primary_metric: result.headline.value,
        f"{result.task.primary_metric}_interval": [result.headline.low, result.headline.high],
        "majority_share": result.majority_share,
        "train_rows": int(rows["train"]),  # kfp reads every number of its metadata as a float.
        "test_rows": result.test_rows,
        "train_samples_per_second": manifest.read(Path(finished.outputs["model"].path)).metrics[
            "train_samples_per_second"
        ],
        "service_name": arguments["service_name"],
        "model_dir": str(finished.model.resolve()),
        "report": str((finished.folder / "report.html").resolve()),
        "verdict": verdict["verdict"],
        "reasons": verdict["reasons"],
        "manifest": str(service.resolve()) if service.exists() else None,
        "seconds": {**finished.seconds, "total": round(total_seconds, 1)},
        "predictions": predictions,
    }


def gather(finished: LocalRun) -> None:
    """Copies the most wanted outputs to the top of the run's folder (see `GATHERED`), and links the model there."""
    for output in finished.outputs.keys() & GATHERED.keys():
        shutil.copyfile(finished.outputs[output].path, finished.folder / GATHERED[output])
    if finished.inference_service:
        shutil.copyfile(finished.inference_service, finished.folder / "inference_service.yaml")
    (finished.folder / "model").symlink_to(os.path.relpath(finished.model, finished.folder))


def publish(finished: LocalRun, summary: dict[str, Any], outputs: Path = OUTPUTS) -> Path:
    """Writes summary.json and makes the run the latest, atomically: readers see either the old run or the new one.

    Args:
        finished: The run.
        summary: The content of summary.json.
        outputs: The folder of runs.

    Returns:
        The link to the latest run.
    """
    text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    (finished.folder / "summary.json").write_text(text, encoding="utf-8")
    latest = outputs / "latest"
    link = outputs / f"latest.{os.getpid()}"
    link.unlink(missing_ok=True)  # Left by a process of the same id that was killed here.
    link.symlink_to(os.path.relpath(finished.folder, outputs))
    link.replace(latest)
    return latest


def _require_room_for_latest(outputs: Path) -> None:
    """Checks, before any work, that the link to the newest run can be created at the end.

    Raises:
        RunError: A file or folder has the name of the link.
    """
    latest = outputs / "latest"
    if latest.exists() and not latest.is_symlink():
        raise RunError(
            f"{latest} is a {'folder' if latest.is_dir() else 'file'}, and has the name of the link to the newest run. "
            f"Move it away, or keep runs elsewhere: --outputs."
        )


def _require_deployed_if_approved(finished: LocalRun) -> None:
    """Checks the result of the gate's condition: kfp.local takes one that it cannot evaluate for false, and goes on.

    Raises:
        RunError: The model was approved, and deploy did not run.
    """
    if finished.approved and not finished.inference_service:
        raise RunError(
            f"the model was approved, but deploy was not run (the whole log: {finished.folder / 'run.log'})"
        )


def latest(outputs: Path = OUTPUTS) -> Path:
    """Returns the folder of the newest run that succeeded.

    Raises:
        RunError: There is none yet.
    """
    folder = outputs / "latest"
    if not (folder / "summary.json").exists():
        raise RunError(f"{folder} holds no run yet. Run one first: miniml run --preset demo, or make run.")
    return folder


def _cache_key(images: str) -> str:
    """Returns a digest of what kfp's own key leaves out: miniml's code, the libraries, the images of the stages.

    The content of the sources is in kfp's key, as an argument of transform and train (see `miniml.sources.pins`).
    """
    return hashlib.sha256(f"{images}\n{environment.fingerprint()}".encode()).hexdigest()[:16]


@contextlib.contextmanager
def _temporary_files_swept() -> Any:
    """Gives the stages a temporary folder that is deleted at the end: KFP's launcher leaves files behind."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        os.environ["TMPDIR"] = scratch
        try:
            yield
        finally:
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before


@contextlib.contextmanager
def stdin_closed() -> Any:
    """Closes standard input in the block, so that no stage waits for an answer to a question that nobody sees."""
    with Path(os.devnull).open(encoding="utf-8") as nobody:
        # None where this process has none either.
        kept = os.dup(sys.__stdin__.fileno()) if sys.__stdin__ else None
        os.dup2(nobody.fileno(), 0)
        try:
            yield
        finally:
            if kept is not None:
                os.dup2(kept, 0)
                os.close(kept)


@contextlib.contextmanager
def _printing_to(console: Console) -> Any:
    """Sends what kfp prints and logs to the console, for as long as the pipeline runs."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers, root.level = [logging.StreamHandler(console)], logging.INFO
    # Where the disk is full, logging would print a traceback of its own beside the final message.
    raises, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        with contextlib.redirect_stdout(console), warnings.catch_warnings():
            # kfp warns as our images' names do not contain "python"; a subprocess ignores the image anyway.
            warnings.filterwarnings("ignore", "You may be attemping to run a task", RuntimeWarning)
            yield
    finally:
        root.handlers, root.level = handlers, level
        logging.raiseExceptions = raises


def _forget_false_successes(cache: Path) -> None:
    """Removes the cache entries of stages without outputs, which kfp would use (see `_without_outputs`)."""
    for entry in cache.glob("*.json"):
        if entry.read_text(encoding="utf-8").strip() == "{}":
            entry.unlink(missing_ok=True)


def _without_outputs(console: Console, folder: Path) -> str:
    """Returns the first stage that succeeded according to kfp, and wrote no outputs; empty where there is none.

    kfp counts a container as successful that is gone before it asks for the exit status.
    """
    for stage, times in Counter(console.succeeded).items():
        # In a loop, each turn of a stage has a folder of its own.
        executor_outputs = [
            *folder.glob(f"artifacts/*/{stage}/{_EXECUTOR_OUTPUT}"),
            *folder.glob(f"artifacts/*/*/{stage}/{_EXECUTOR_OUTPUT}"),
        ]
        if len(executor_outputs) < times:
            return stage
    return ""


def _explained(console: Console, folder: Path, error: Exception | None = None) -> RunError:
    stage = _without_outputs(console, folder) or console.failed_stage
    if not stage and isinstance(error, requests.RequestException):
        # The Docker client's errors are of this type.
        return RunError(
            f"{console.stage}: its container was lost, or the engine failed ({error}). Check that the engine runs, "
            f"and run again (the whole log: {folder / 'run.log'})"
        )
    if not stage:
        return RunError(f"{error} (the log: {folder / 'run.log'})")
    return RunError(
        f"{stage}: {console.raised.get(stage) or SILENT_END}\n(the whole log: {folder / 'run.log'})"
    )
