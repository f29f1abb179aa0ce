"""Makes a model that reads less of a text, with the same weights."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import AutoTokenizer

from miniml.compression.derived_model import copy_model, describe_and_sign, measure_on_validation
from miniml.data import prepared
from miniml.files.folders import written_whole
from miniml.model import manifest, quick_start
from miniml.model.classifier import Classifier
from miniml.model.manifest import Manifest
from miniml.progress import Progress

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
        copy_model(model_dir, partial)
        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        tokenizer.model_max_length = max_length
        shorter = Classifier(full.engine, tokenizer, full.head, full.manifest)
        tokenizer.save_pretrained(partial)
        metrics = measure_on_validation(shorter, dataset_dir, partial)
        quick_start.write(partial, shorter.engine, shorter.head)
        metrics["texts_cut"] = float((lengths >= max_length).mean())
        record = replace(full.manifest, arguments=_arguments(full, max_length), metrics=metrics)
        return describe_and_sign(partial, record)


def _arguments(full: Classifier, max_length: int) -> dict[str, object]:
    """Returns the full model's arguments with the new length, and with the model that was shortened."""
    arguments = full.manifest.arguments
    return {
        **arguments,
        "training": {**arguments["training"], "max_length": max_length},
        "used": {**arguments.get("used", {}), "max_length": max_length},
        "shortened": {"digest": full.manifest.digest, "max_length": full.max_length},
    }
