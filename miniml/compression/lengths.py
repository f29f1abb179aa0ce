"""Makes a model that reads less of a text, with the same weights."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import AutoTokenizer

from miniml.data import prepared
from miniml.files.folders import written_whole
from miniml.model import calibration, manifest, probes, quick_start
from miniml.model.classifier import Classifier
from miniml.model.learnt_texts import LearntTexts
from miniml.model.manifest import Manifest
from miniml.processor import threads_within_quota
from miniml.progress import Progress
from miniml.settings.arguments import settings_from
from miniml.settings.training import TrainingSettings
from miniml.training import card
from miniml.training.card import CARD_NAME
from miniml.training.targets import figures_on_validation, target_of

Lengths = npt.NDArray[np.int64]

TRIED = (128, 64)
"""The maximal lengths that are tried, in tokens."""
QUANTILE = 0.9
"""The quantile of the training texts' lengths that is tried too."""
MULTIPLE = 8
LEAST_SAVED = 0.1
"""The least share of tokens that a shorter length must save to be tried."""
TEXTS_AT_A_TIME = 1000


def lengths_of_training(dataset_dir: Path, model_dir: Path) -> Lengths:
    """Returns the number of tokens of each training text before truncation, shape [texts]."""
    splits, _ = prepared.load(dataset_dir, ("train",))
    full, texts = Classifier.load(model_dir), splits["train"].select_columns("text")
    progress = Progress("counting tokens", len(texts), "texts")
    found: list[Lengths] = []
    for rows in texts.iter(TEXTS_AT_A_TIME):
        found.append(full.lengths(rows["text"]))
        progress.report(sum(map(len, found)))
    return np.concatenate(found)


def shorter_lengths(lengths: Lengths, max_length: int) -> list[int]:
    """Returns the maximal lengths to try, the longest first, each of which saves a tenth of the tokens or more.

    Args:
        lengths: The tokens of each training text, shape [texts].
        max_length: The maximal length of the full model.
    """
    of_quantile = MULTIPLE * math.ceil(np.quantile(lengths, QUANTILE) / MULTIPLE)
    found: list[int] = []
    tokens = np.minimum(lengths, max_length).sum()
    for tried in sorted({*TRIED, of_quantile}, reverse=True):
        left = np.minimum(lengths, tried).sum()
        if tried < max_length and left <= (1 - LEAST_SAVED) * tokens:
            found.append(tried)
            tokens = left
    return found


def shorten(dataset_dir: Path, model_dir: Path, max_length: int, lengths: Lengths, folder: Path) -> Manifest:
    """Writes a model folder with the same weights that reads at most `max_length` tokens of a text.

    Its validation metrics, its temperature and its probes are measured anew.

    Args:
        dataset_dir: The dataset that the model was trained on.
        model_dir: The model's folder.
        max_length: The most tokens of a text.
        lengths: The tokens of each training text, shape [texts].
        folder: The folder to write.

    Returns:
        The manifest of the new folder.

    Raises:
        ModelFolderError: the model's folder has changed, or cannot be loaded.
        StorageError: the folder cannot be written.
    """
    full = Classifier.load(model_dir)
    with written_whole(folder, manifest.OUTPUT_NAMES) as partial:
        not_kept = shutil.ignore_patterns(
            *(manifest.MANIFEST_NAME, CARD_NAME, calibration.CALIBRATION_NAME),
            *(probes.PROBES_NAME, quick_start.QUICK_START_NAME),
        )
        shutil.copytree(model_dir, partial, dirs_exist_ok=True, ignore=not_kept)
        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        tokenizer.model_max_length = max_length
        shorter = Classifier(full.engine, tokenizer, full.head, full.manifest)
        tokenizer.save_pretrained(partial)
        metrics = measure_on_validation(shorter, dataset_dir, partial)
        quick_start.write(partial, shorter.engine, shorter.head)
        metrics["texts_cut"] = float((lengths >= max_length).mean())
        record = replace(full.manifest, arguments=_arguments(full, max_length), metrics=metrics)
        card.write(partial, record)
        return manifest.sign(
            partial,
            data=record.data,
            arguments=record.arguments,
            versions=record.versions,
            metrics=record.metrics,
        )


def _arguments(full: Classifier, max_length: int) -> dict[str, object]:
    """Returns the full model's arguments with the new length, and with the model that was shortened."""
    arguments = full.manifest.arguments
    return {
        **arguments,
        "training": {**arguments["training"], "max_length": max_length},
        "used": {**arguments.get("used", {}), "max_length": max_length},
        "shortened": {"digest": full.manifest.digest, "max_length": full.max_length},
    }


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
