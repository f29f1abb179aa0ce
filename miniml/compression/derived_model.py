"""Makes the folder of a model from another one's without training: what is copied, measured anew, and signed."""

from __future__ import annotations

import shutil
from pathlib import Path

from miniml.data import prepared
from miniml.model import calibration, manifest, probes, quick_start
from miniml.model.classifier import Classifier
from miniml.model.learnt_texts import LearntTexts
from miniml.model.manifest import Manifest
from miniml.processor import threads_within_quota
from miniml.settings.arguments import settings_from
from miniml.settings.training import TrainingSettings
from miniml.training import card
from miniml.training.card import CARD_NAME
from miniml.training.targets import figures_on_validation, target_of

WRITTEN_ANEW = (
    manifest.MANIFEST_NAME,
    CARD_NAME,
    calibration.CALIBRATION_NAME,
    probes.PROBES_NAME,
    quick_start.QUICK_START_NAME,
)
"""The files that describe the other model, or were measured on it."""


def copy_model(model_dir: Path, folder: Path, *left_out: str) -> None:
    """Copies a model folder, without the files that are written anew.

    Args:
        model_dir: The model's folder.
        folder: The new folder, which exists.
        left_out: Patterns of further names that are not copied.
    """
    not_kept = shutil.ignore_patterns(*WRITTEN_ANEW, *left_out)
    shutil.copytree(model_dir, folder, dirs_exist_ok=True, ignore=not_kept)


def measure_on_validation(model: Classifier, dataset_dir: Path, folder: Path) -> dict[str, float]:
    """Measures a model on the validation rows, and writes its temperature and its probes.

    Args:
        model: The model, with the manifest of the one that it was made of.
        dataset_dir: The dataset that that one was trained on.
        folder: The new model's folder, with the record of learnt texts in it.

    Returns:
        The metrics of the new model's manifest.
    """
    splits, summary = prepared.load(dataset_dir, ("train", "validation"))
    settings = settings_from(TrainingSettings, model.manifest.arguments["training"])
    target = target_of(summary, splits["train"]["label"][:], settings)
    predecessors = LearntTexts.read(folder).of_predecessors()
    validation = predecessors.unlearnt(splits["validation"], settings.model_id)
    labels = target.encoded(validation["label"][:])
    texts = model.encode(validation["text"][:])
    with threads_within_quota():
        logits = model.logits(texts)
        probes.write(folder, model.engine, texts, target.head.margin)
    figures = figures_on_validation(target, logits, labels)
    metrics = model.manifest.metrics | {f"validation_{name}": value for name, value in figures.items()}
    rows = calibration.CALIBRATION_ROWS
    temperature = target.temperature(logits[:rows], labels[:rows])
    if temperature is not None:
        calibration.write(folder, temperature, len(labels[:rows]))
        metrics["temperature"] = temperature
    return metrics


def describe_and_sign(folder: Path, record: Manifest) -> Manifest:
    """Writes the model card and the manifest of a folder that is otherwise complete.

    Args:
        folder: The model's folder.
        record: What the manifest is to say; its list of files is not used.

    Returns:
        The manifest.

    Raises:
        ModelFolderError: the folder holds a link, or something else that is no regular file.
    """
    card.write(folder, record)
    return manifest.sign(
        folder,
        data=record.data,
        arguments=record.arguments,
        versions=record.versions,
        metrics=record.metrics,
    )
