"""Makes smaller models of a fine-tuned one, and writes the folder of the one that is chosen: the compress stage."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from miniml.compression.full_model import read_full_model
from miniml.compression.outcome import NOTHING_ASKED, Selection
from miniml.compression.report import write_report
from miniml.errors import InputError
from miniml.files.folders import (
    disk_errors_explained,
    held_alone,
    remove_abandoned,
    require_replaceable,
    require_writable_file,
    written_whole,
)
from miniml.model import manifest
from miniml.progress import logger
from miniml.settings.compression import CompressionSettings
from miniml.task_registry import stored_task

OUTPUT_NAMES = (manifest.MANIFEST_NAME, manifest.NO_MODEL_NAME)
"""Every folder that compress writes holds one of these files."""
WORK_NAME = "candidates_of_compress"
"""An empty file in the folder of the candidates, which tells it from a folder of somebody else with the same name."""


def compress(
    dataset_dir: Path,
    model_dir: Path,
    chosen_dir: Path,
    settings: CompressionSettings,
    report: Path | None = None,
    model_uri: str = "",
    split: int = 1,
) -> Selection:
    """Makes smaller models, chooses one on the validation rows, and writes it.

    Args:
        dataset_dir: The dataset that the full model was trained on. The split "test" is not read.
        model_dir: The full model's folder.
        chosen_dir: The folder to write: the chosen model, or `no_model.json` with the reason why there is none.
        settings: Which models to make, and how much they may lose.
        report: The HTML file to write; None writes none.
        model_uri: The address of the full model, if it is known.
        split: The number of parts in which each batch of a training is computed, to take less memory.

    Returns:
        What was measured of all models, and which was chosen.

    Raises:
        InputError: the folder to write is the full model's, one of them is inside the other, another process is writing
            it, or the report cannot be written.
        MinimlError: as `miniml.compression.candidates.make_candidates`, and `miniml.compression.selection.select`.
    """
    require_replaceable(chosen_dir, OUTPUT_NAMES)
    _require_apart(chosen_dir, model_dir)
    work_dir = chosen_dir.with_name(f"{chosen_dir.name}.candidates")
    if report:
        full = [model_dir] if manifest.holds_model(model_dir) else []
        require_writable_file("report", report, (*full, chosen_dir, work_dir))
    if settings.compression == "none":
        selection = NOTHING_ASKED
        _write_chosen(selection, {}, chosen_dir)
        if (work_dir / WORK_NAME).exists():
            remove_abandoned(work_dir)
    else:
        require_replaceable(work_dir, (WORK_NAME,))
        _warn_of_few_rows(read_full_model(model_dir), settings.max_loss)
        with held_alone(work_dir, str(chosen_dir)):
            with disk_errors_explained(work_dir):
                (work_dir / WORK_NAME).touch()
            selection, folders = _make_and_select(
                dataset_dir, model_dir, work_dir, settings, model_uri, split
            )
            _write_chosen(selection, folders, chosen_dir)
            shutil.rmtree(work_dir, ignore_errors=True)
    if report:
        write_report(selection, settings, report)
    logger.info(f"smaller model: {selection.reason}")
    return selection


def _make_and_select(
    dataset_dir: Path,
    model_dir: Path,
    work_dir: Path,
    settings: CompressionSettings,
    model_uri: str,
    split: int,
) -> tuple[Selection, dict[str, Path]]:
    """Returns what was measured of all models, and the candidates' folders by name."""
    # Only here: without a compression the stage needs no torch, and ends at once.
    from miniml.compression.candidates import make_candidates
    from miniml.compression.selection import select

    reasons: list[str] = []

    def tell(reason: str) -> None:
        logger.info(reason)
        reasons.append(reason)

    candidates = make_candidates(dataset_dir, model_dir, work_dir, settings, model_uri, split, tell)
    selection = select(dataset_dir, model_dir, candidates, settings.max_loss)
    seconds = {each.name: each.seconds for each in candidates}
    selection = replace(selection.with_seconds(seconds), not_made=reasons)
    return selection, {each.name: each.folder for each in candidates}


def _write_chosen(selection: Selection, folders: Mapping[str, Path], chosen_dir: Path) -> None:
    """Writes the chosen candidate, or why there is none.

    Args:
        selection: It says which one.
        folders: The candidates' folders, by name.
        chosen_dir: The folder to write.
    """
    with written_whole(chosen_dir, OUTPUT_NAMES) as partial:
        if chosen := selection.chosen:
            shutil.copytree(folders[chosen.name], partial, dirs_exist_ok=True)
        else:
            reason = json.dumps({"reason": selection.reason}, ensure_ascii=False)
            (partial / manifest.NO_MODEL_NAME).write_text(reason + "\n", encoding="utf-8")


def _require_apart(chosen_dir: Path, model_dir: Path) -> None:
    """Refuses to write where the full model is.

    Raises:
        InputError: the folder to write is the full model's, or one of them is inside the other.
    """
    chosen, full = chosen_dir.resolve(), model_dir.resolve()
    if full.is_relative_to(chosen):
        raise InputError(f"{chosen_dir} is or holds the full model, which would be lost. Name a new folder.")
    if chosen.is_relative_to(full) and manifest.holds_model(full):
        raise InputError(
            f"{chosen_dir} is inside the full model's folder, which would change. Name a folder beside it."
        )


def _warn_of_few_rows(full: manifest.Manifest, max_loss: float) -> None:
    """Tells, before anything is trained, of splits with too few rows for any model to be shown not to be inferior."""
    from miniml.evaluation.non_inferiority import rows_needed  # Only here: it needs scipy.

    data = full.data
    if not stored_task(data).has_accuracy:
        return
    if max_loss == 0:
        logger.info("max_loss 0 accepts no loss: only a model that is shown to be better is served")
        return
    fewest = math.ceil(rows_needed(0.0, 0.0, max_loss))
    for split in ("validation", "test"):
        if (rows := data["rows"].get(split, 0)) < fewest:
            logger.info(
                f"{rows:,} {split} rows are too few for max_loss {max_loss:g}: it takes {fewest:,} to show it of a "
                f"model that answers all of them as the full one does, and more of any other"
            )
