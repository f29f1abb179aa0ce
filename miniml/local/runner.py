"""Runs a compiled pipeline on this machine, and gathers what came of it."""

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
from typing import Any, TextIO

import kfp.local
import requests
from kfp import components

from miniml import environment
from miniml.errors import MinimlError
from miniml.evaluation.result import EvaluationResult
from miniml.local.console import Console
from miniml.model import manifest
from miniml.pipeline.compiled import as_run_here, stages_in_order

OUTPUTS = Path(os.environ.get("MINIML_OUTPUTS", "local_outputs"))
"""Where runs are kept; MINIML_OUTPUTS says otherwise."""

_WRITTEN = "executor_output.json"

SILENT_END = (
    "ended without a word, as a process does that is killed; the system's log (dmesg) says by whom, and why"
)


class RunError(MinimlError):
    """A stage of a run failed; the message is the stage's own."""


GATHERED = {
    "report": "report.html",
    "data_report": "data_report.html",
    "training_report": "training_report.html",
    "search_report": "search_report.html",
    "metrics": "metrics.json",
    "search": "search.json",
    "predictions": "predictions.parquet",
}
"""What a person looks for of a pipeline's outputs, and what it is called at the top of the run's folder."""


@dataclass(frozen=True)
class LocalRun:
    """A run that has ended well: the pipeline's outputs, and its folder below local_outputs/runs."""

    folder: Path
    outputs: dict[str, Any]
    seconds: dict[str, float]

    @property
    def model(self) -> Path:
        return Path(self.outputs["model"].path)

    @property
    def approved(self) -> bool:
        return bool(self.outputs["verdict"].metadata["verdict"] == "approved")

    @property
    def inference_service(self) -> Path | None:
        """The rendered manifest, where the gate let the model through."""
        found = sorted(self.folder.glob("artifacts/*/deploy/inference_service"))
        return found[0] if found else None


@dataclass(frozen=True)
class Machine:
    """What kfp.local runs the stages in."""

    runner: kfp.local.SubprocessRunner | kfp.local.DockerRunner
    images: str = ""
    """The contents of the containers' images, which their names do not tell; empty where none are used."""
    clean_up: Callable[[], None] = lambda: None
    """Called after a run, however it ended."""


def run(
    compiled: Path,
    arguments: dict[str, Any],
    machine: Machine,
    *,
    outputs: Path = OUTPUTS,
    screen: TextIO = sys.stdout,
) -> LocalRun:
    """Runs the compiled pipeline on this machine, a stage at a time.

    Stages whose arguments, code and sources have not changed are taken from the cache.

    Raises:
        RunError: a stage failed, and `outputs`/latest stays as it was, the log tells the rest; or something is in the
            place of that link.
    """
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
            # What a stage has not written is missed by kfp or by a later stage, in words of any kind.
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
    """Where the folders of all runs lie."""
    return outputs / "runs"


def summarise(
    finished: LocalRun, arguments: dict[str, Any], predictions: list[dict[str, Any]], total_seconds: float
) -> dict[str, Any]:
    """The run in figures and paths, as summary.json holds it."""
    result = EvaluationResult.read(Path(finished.outputs["metrics"].path))
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
        "train_samples_per_second": manifest.read(finished.model).metrics["train_samples_per_second"],
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
    """Puts what a person looks for at the top of the run's folder, by plain names."""
    for output in finished.outputs.keys() & GATHERED.keys():
        shutil.copyfile(finished.outputs[output].path, finished.folder / GATHERED[output])
    if finished.inference_service:
        shutil.copyfile(finished.inference_service, finished.folder / "inference_service.yaml")
    (finished.folder / "model").symlink_to(os.path.relpath(finished.model, finished.folder))


def publish(finished: LocalRun, summary: dict[str, Any], outputs: Path = OUTPUTS) -> Path:
    """Writes summary.json and makes the run the latest, in one step: a reader sees the old or the new one whole."""
    text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    (finished.folder / "summary.json").write_text(text, encoding="utf-8")
    latest = outputs / "latest"
    link = outputs / f"latest.{os.getpid()}"
    link.unlink(missing_ok=True)  # Left by a process of that number that was killed at this very place.
    link.symlink_to(os.path.relpath(finished.folder, outputs))
    link.replace(latest)
    return latest


def _require_room_for_latest(outputs: Path) -> None:
    """Refuses, before any work, to run where the link to the newest run could not be put in the end."""
    latest = outputs / "latest"
    if latest.exists() and not latest.is_symlink():
        raise RunError(
            f"{latest} is a {'folder' if latest.is_dir() else 'file'}, where the link to the newest run has its place. "
            f"Move it away, or keep runs elsewhere: --outputs."
        )


def _require_deployed_if_approved(finished: LocalRun) -> None:
    """kfp.local takes a condition that it cannot read for false, and still reports success."""
    if finished.approved and not finished.inference_service:
        raise RunError(
            f"the model was approved, but deploy was not run (the whole log: {finished.folder / 'run.log'})"
        )


def latest(outputs: Path = OUTPUTS) -> Path:
    """The folder of the newest run that ended well.

    Raises:
        RunError: there is none yet.
    """
    folder = outputs / "latest"
    if not (folder / "summary.json").exists():
        raise RunError(f"{folder} holds no run yet. Run one first: miniml run --preset demo, or make run.")
    return folder


def _cache_key(images: str) -> str:
    """Changes with what kfp's own key does not see: our code, the libraries, the images that stages run in.

    What the sources hold is in that key: preflight looks, and transform and train are told (see `miniml.sources.pins`).
    """
    return hashlib.sha256(f"{images}\n{environment.fingerprint()}".encode()).hexdigest()[:16]


@contextlib.contextmanager
def _temporary_files_swept() -> Any:
    """Gives the stages a folder for temporary files of their own: each one's launcher leaves some behind."""
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
    """Has nobody to answer what a library asks in a stage: kfp hands its own standard input down, out of sight."""
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
    # Where the disk is full, logging would show a traceback of its own beside the message that ends the run.
    tells, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        with contextlib.redirect_stdout(console), warnings.catch_warnings():
            # Our images are not named after Python; that a subprocess ignores them is what is wanted here.
            warnings.filterwarnings("ignore", "You may be attemping to run a task", RuntimeWarning)
            yield
    finally:
        root.handlers, root.level = handlers, level
        logging.raiseExceptions = tells


def _forget_false_successes(cache: Path) -> None:
    """Removes the entries of stages that left nothing: kfp keeps them too, and would go on from them (see below)."""
    for entry in cache.glob("*.json"):
        if entry.read_text(encoding="utf-8").strip() == "{}":
            entry.unlink(missing_ok=True)


def _without_outputs(console: Console, folder: Path) -> str:
    """The first stage that kfp calls a success though it wrote no outputs; empty where there is none.

    A container that is gone before kfp asks how it ended counts as one that ended well.
    """
    for stage, times in Counter(console.succeeded).items():
        # A stage in a loop writes below a folder of each turn's own.
        written = [
            *folder.glob(f"artifacts/*/{stage}/{_WRITTEN}"),
            *folder.glob(f"artifacts/*/*/{stage}/{_WRITTEN}"),
        ]
        if len(written) < times:
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
