"""Trains a model with fewer layers to give the full model's answers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np

from miniml.compression.layers import keep_layers, number_of_layers, spread
from miniml.data import prepared
from miniml.errors import InputError
from miniml.files.folders import disk_errors_explained
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.model.heads import Logits
from miniml.model.manifest import Manifest
from miniml.processor import threads_within_quota
from miniml.progress import Progress
from miniml.settings.arguments import settings_from
from miniml.settings.choices import LAST
from miniml.settings.compression import CompressionSettings
from miniml.settings.training import TrainingSettings
from miniml.training.device import choose_device, same_or_fastest
from miniml.training.fine_tune import TrainingResult, fine_tune
from miniml.training.teacher import Teacher

# Texts that are sorted by length together, and whose tokens are in memory at a time.
TEXTS_AT_A_TIME = 10_000
# LoRA needs about ten times the learning rate of a training of all weights.
LORA_FACTOR = 10


def distil(
    dataset_dir: Path,
    model_dir: Path,
    layers: int,
    answers: Path,
    folder: Path,
    settings: CompressionSettings,
    model_uri: str = "",
    split: int = 1,
) -> TrainingResult:
    """Trains some layers of a full model to give its answers, and writes a model folder as `fine_tune` does.

    Args:
        dataset_dir: The dataset that the full model was trained on.
        model_dir: The full model's folder.
        layers: The number of encoder layers to keep.
        answers: The file that keeps the full model's answers for other candidates (see `logits_of_training`).
        folder: The folder to write. The model to begin with stands beside it until it is trained.
        settings: How to train.
        model_uri: The address of the full model, if it is known; in an S3 store checkpoints go beside it.
        split: The number of parts in which each batch is computed, to take less memory.

    Raises:
        UncuttableError: the model's architecture does not work with fewer layers.
        MinimlError: as `fine_tune`.
    """
    full = manifest.verify(model_dir)
    kept = spread(number_of_layers(model_dir), layers)
    with disk_errors_explained(folder):
        for path in (folder, answers):
            path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            student = Path(scratch) / "student"
            keep_layers(model_dir, kept, student)
            teacher = Teacher(
                student,
                logits_of_training(dataset_dir, model_dir, answers),
                settings.distillation_temperature,
                settings.distillation_weight,
                {"digest": full.digest, "layers": list(kept)},
            )
            training = training_settings(full, settings)
            return fine_tune(dataset_dir, folder, training, model_uri, split=split, teacher=teacher)


def training_settings(full: Manifest, settings: CompressionSettings) -> TrainingSettings:
    """Returns the settings of a smaller model's training: the full model's, but for how long and how it is trained.

    Args:
        full: The full model's manifest.
        settings: How to train a smaller model.
    """
    stored = settings_from(TrainingSettings, full.arguments["training"])
    rate = stored.learning_rate / (LORA_FACTOR if stored.lora_rank else 1)
    return replace(
        stored,
        device=same_or_fastest(stored.device),
        iterations=0,
        epochs=settings.distillation_epochs,
        learning_rate=settings.distillation_learning_rate or rate,
        # Of a smaller model everything is trained, and it begins with the full model's head.
        from_scratch=False,
        frozen_layers=0,
        lora_rank=0,
        linear_probe=False,
        # The candidates are compared on the validation rows, which would flatter weights that were chosen on them.
        best_by=LAST,
        # They were meant for the full model's steps.
        stop_at_step=0,
        early_stopping=0,
        num_nodes=1,
        log_to="",
    )


def require_trained_on(dataset_dir: Path, model_dir: Path) -> None:
    """Refuses a dataset that is another than the full model's.

    Args:
        dataset_dir: The dataset.
        model_dir: The full model's folder.

    Raises:
        InputError: the full model was trained on another dataset.
    """
    _, summary = prepared.load(dataset_dir, ())
    if manifest.read(model_dir).data.get("fingerprint") != summary.fingerprint:
        raise InputError(
            f"model {model_dir} was trained on another dataset than {dataset_dir} (its fingerprint is not "
            f"{summary.fingerprint[:12]}), so that another test was held out. Give the dataset that it was trained on."
        )


def logits_of_training(dataset_dir: Path, model_dir: Path, file: Path) -> Logits:
    """Returns the full model's logits of the training texts, as serving computes them, shape [texts, width].

    Args:
        dataset_dir: The dataset that the full model was trained on.
        model_dir: The full model's folder.
        file: Keeps the logits; where it exists, they are read from it.

    Raises:
        InputError: the full model was trained on another dataset.
        ModelFolderError: the full model's folder has changed, or cannot be loaded.
        StorageError: the file cannot be written.
    """
    require_trained_on(dataset_dir, model_dir)
    splits, _ = prepared.load(dataset_dir, ("train",))
    if file.exists():
        found: Logits = np.load(file)
        return found
    device = same_or_fastest(
        settings_from(TrainingSettings, manifest.read(model_dir).arguments["training"]).device
    )
    full = Classifier.load(model_dir, device=str(choose_device(device)))
    with threads_within_quota():
        logits = np.concatenate(list(_logits(full, splits["train"])))
    with disk_errors_explained(file):
        # Renamed at the end: a process that is killed leaves no half of a file.
        partial = file.with_name(f"{file.name}.partial")
        with partial.open("wb") as opened:
            np.save(opened, logits)
        partial.rename(file)
    return logits


def _logits(full: Classifier, texts: datasets.Dataset) -> Iterator[Logits]:
    progress, done = Progress("asking the full model", len(texts), "texts"), 0

    def report(answered: int) -> None:
        progress.report(done + answered)

    for rows in texts.select_columns("text").iter(TEXTS_AT_A_TIME):
        yield full.logits(full.encode(rows["text"]), report)
        done += len(rows["text"])
