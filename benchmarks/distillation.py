"""`make bench-distillation`: what models with fewer layers lose that are taught the full model's answers."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from benchmarks import recipes, results
from benchmarks.distillation_page import write_distillation_page
from benchmarks.machine import described, in_a_process
from benchmarks.recipes import COMMON, SEEDS, Half, write_rows
from benchmarks.training import MINILM
from miniml.compression.candidates import layers_to_keep
from miniml.compression.distillation import distil
from miniml.compression.layers import number_of_layers
from miniml.data import preparation, prepared
from miniml.model.classifier import Classifier
from miniml.processor import threads_within_quota
from miniml.settings.compression import CompressionSettings
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.training.fine_tune import fine_tune

MODULE = "benchmarks.distillation"
NAME = "distillation"
HALVES = {
    "short": replace(recipes.HALVES["short"], train_rows=6000, settings={"max_length": 64, "batch_size": 32}),
    "long": replace(recipes.HALVES["long"], train_rows=3200, settings={"max_length": 256, "batch_size": 16}),
}


def measure_here(model_id: str, rows: Path, seed: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Trains a full model and smaller ones, as the stages do, and asks all of them the test rows.

    Args:
        model_id: The encoder.
        rows: The folder with train.csv and test.csv.
        seed: Decides what is random in the training.
        settings: Further settings of the training.

    Returns:
        For each model, the full one first, which rows it answers correctly, and how many of the full model's answers
        it gives.
    """
    settings_of_smaller = CompressionSettings()
    training = TrainingSettings(model_id=model_id, seed=seed, checkpoints="none", **{**COMMON, **settings})
    with tempfile.TemporaryDirectory(prefix="miniml-") as name:
        dataset, full, answers = (Path(name) / each for each in ("dataset", "full", "answers.npy"))
        # The texts that are left out as duplicates are few; all of them would be others in the test.
        preparation.prepare(
            DataSettings(dataset_id=str(rows), max_rows=0, near_duplicates="report", seed=seed), dataset
        )
        fine_tune(dataset, full, training)
        layers = number_of_layers(full)
        folders = {layers: full}
        for kept in layers_to_keep(layers, settings_of_smaller):
            folders[kept] = Path(name) / f"layers-{kept}"
            distil(dataset, full, kept, answers, folders[kept], settings_of_smaller)
        splits, _ = prepared.load(dataset, ("test",))
        texts, labels = splits["test"]["text"][:], np.array(splits["test"]["label"][:])
        with threads_within_quota():
            found = {kept: _answers(folder, texts) for kept, folder in folders.items()}
    return [
        {
            "layers": kept,
            "right": (answered == labels).astype(int).tolist(),
            "agreement": float((answered == found[layers]).mean()),
        }
        for kept, answered in found.items()
    ]


def _answers(folder: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    answered: np.ndarray[Any, Any] = Classifier.load(folder).predict_probabilities(texts).argmax(axis=1)
    return answered


def measure(halves: list[str]) -> dict[str, Any]:
    """Measures every seed on every kind of reviews; what was measured is kept at once, so that it can go on.

    Args:
        halves: The names of the kinds of reviews.
    """
    points = results.last(NAME)["points"] if results.there(NAME) else []
    for seed in SEEDS:
        for half in halves:
            place = {"half": half, "seed": seed}
            if any(place.items() <= point.items() for point in points):
                continue
            measured = in_a_process(MODULE, "--only", half, "--seed", str(seed))
            points += [{**place, **each} for each in measured["models"]]
            results.keep(NAME, _result(points))
            shown = "  ".join(
                f"{each['layers']}: {np.mean(each['right']):.4f}" for each in measured["models"]
            )
            print(f"{half:<6} seed {seed}  accuracy by layers  {shown}", flush=True)
    return _result(points)


def _result(points: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "machine": described("torch", "transformers", "accelerate"),
        "command": "make bench-distillation",
        "halves": {
            name: {"title": half.title, "train_rows": half.train_rows} for name, half in HALVES.items()
        },
        "points": points,
    }


def main() -> int:
    """Measures, and writes the page's section."""
    parser = argparse.ArgumentParser(f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--render-only", action="store_true", help="write the page from the last result")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--half", action="append", choices=HALVES, help="these reviews only")
    parser.add_argument("--only", choices=HALVES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    datasets.disable_progress_bars()
    if options.only:
        print(json.dumps({"models": _measured(HALVES[options.only], options.seed)}))
        return 0
    if options.fresh:
        results.forget(NAME)
    if not options.render_only:
        results.keep(NAME, measure(options.half or [*HALVES]))
    write_distillation_page(results.last(NAME))
    return 0


def _measured(half: Half, seed: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="miniml-") as rows:
        write_rows(half, seed, Path(rows))
        return measure_here(MINILM, Path(rows), seed, half.settings)


if __name__ == "__main__":
    sys.exit(main())
