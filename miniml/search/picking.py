"""Picks a search's winner by validation, copies its model, and writes the report on all trials."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from miniml.files.folders import require_room, written_whole
from miniml.model import manifest
from miniml.progress import logger
from miniml.search.report import write_report
from miniml.search.selection_uncertainty import selection_uncertainty
from miniml.search.trial_result import SearchResult, TrialResult, choose, read_trial_result
from miniml.settings.search import SearchSettings, describe_trial
from miniml.task import Task
from miniml.task_registry import DEFAULT, stored_task


def pick(folders: Sequence[Path], settings: SearchSettings, model_dir: Path, report: Path) -> SearchResult:
    """Picks the winner, and copies its model unchanged, with its signature.

    Args:
        folders: The folders that the trials have written, in any order.
        settings: The search's settings.
        model_dir: The folder to copy the winner to.
        report: The HTML file to write.

    Raises:
        InputError: no trial has a model.
        ModelFolderError: a folder is of no trial of this search, or the winner's was changed since it was signed.
        StorageError: there is no room for the winner.
    """
    plan = settings.plan()
    results = sorted((read_trial_result(folder, plan) for folder in folders), key=lambda found: found.number)
    picked_by = _task(results).validation_metric(settings.pick_by)
    if not any(one.can_win(picked_by) for one in results):
        picked_by = "loss"  # Where labels are numbers there is no F1 to pick by.
    winner = choose(results, picked_by)
    signed = manifest.verify(winner.folder)
    rows = int(signed.data["rows"]["validation"])
    accuracies = {one.number: one.accuracy for one in results if math.isfinite(one.accuracy)}
    accuracy = accuracies.pop(winner.number, None)
    uncertainty = None if accuracy is None else selection_uncertainty(accuracy, [*accuracies.values()], rows)
    result = SearchResult(
        results, winner, picked_by, signed.digest, str(signed.data["source"]), rows, uncertainty
    )
    size = sum(path.stat().st_size for path in winner.folder.rglob("*"))
    require_room(model_dir, size, "keeping the winner's model")
    with written_whole(model_dir, manifest.OUTPUT_NAMES) as folder:
        shutil.copytree(winner.folder, folder, dirs_exist_ok=True)
    write_report(result, settings, signed.arguments["training"], report)
    logger.info(f"picked trial {winner.number} of {len(results)}: {describe_trial(winner.trial)}")
    logger.info(_metrics_line(result))
    return result


def _task(results: Sequence[TrialResult]) -> Task:
    """Returns the task, from any trial with a model: all have the same dataset."""
    models = (manifest.read(one.folder) for one in results if not one.failure)
    return next((stored_task(model.data) for model in models), DEFAULT)


def _metrics_line(result: SearchResult) -> str:
    if not result.uncertainty:
        figure = (
            f"{result.picked_by.replace('_', ' ')} is {result.winner.on_validation(result.picked_by):.3f}"
        )
        return f"its validation {figure}, on {result.validation_rows:,} rows"
    return (
        f"validation accuracy {result.uncertainty.accuracy.value:.3f} ± {result.uncertainty.standard_error:.3f} on "
        f"{result.validation_rows:,} rows; {result.uncertainty.rivals or 'none'} of the others within chance of it"
    )
