"""`make bench-levers`: what each thing that makes a training fast does to its speed and to what is learnt."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets

from benchmarks import results
from benchmarks.levers_page import write_levers_page
from benchmarks.machine import described, in_a_process, peak_mib
from benchmarks.training import MAX_LENGTH, MINILM, TEST_ROWS, accuracy, prepare_reviews
from miniml.settings.training import TrainingSettings
from miniml.training.fine_tune import fine_tune

MODULE = "benchmarks.levers"
SEEDS = (1, 2, 3)
# As in the demo: few reviews make enough steps for MiniLM to have learnt most of what it will.
TEXTS_IN_STEP = 8
LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Lever:
    """One thing that is done otherwise than miniml does it by default."""

    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of the train stage."""
    constants: dict[str, Any] = field(default_factory=dict)
    """What is no argument: module:name of it."""
    seeds: tuple[int, ...] = SEEDS
    """One is enough where nothing but rounding changes."""


DEFAULT = "default"
LEVERS = {
    DEFAULT: Lever("as it is by default"),
    "fp32": Lever("fp32, not bf16", {"precision": "fp32"}),
    "padded": Lever("padded batches, the last layer for all tokens", constants={"packing:ENCODERS": ()}),
    "dropout": Lever("dropout of 0.1, and so torch's attention", {"dropout": 0.1}),
    "random-order": Lever("texts in random order, not by length", constants={"batches:STEPS_IN_WINDOW": 1}),
    "half-budget": Lever(
        "passes of 2,048 tokens, not of 4,096",
        constants={"batches:TOKENS_IN_PASS": {"cpu": 2048}},
        seeds=(1,),
    ),
}


def place_of(constant: str) -> tuple[ModuleType, str]:
    """The module of `miniml.training` that has the constant, and what it is called there."""
    module, _, name = constant.partition(":")
    return importlib.import_module(f"miniml.training.{module}"), name


def measure_here(name: str, seed: int, model_id: str, dataset_dir: Path, samples: int) -> dict[str, Any]:
    """Trains with one lever in this process, which is of no use for another one afterwards."""
    lever = LEVERS[name]
    for constant, value in lever.constants.items():
        module, name_there = place_of(constant)
        setattr(module, name_there, value)
    settings = {
        "batch_size": TEXTS_IN_STEP,
        "learning_rate": LEARNING_RATE,
        "iterations": samples // TEXTS_IN_STEP,
        "max_length": MAX_LENGTH,
        **lever.settings,
    }
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        folder = Path(scratch) / "model"
        chosen = TrainingSettings(model_id=model_id, seed=seed, checkpoints="none", **settings)
        rate = fine_tune(dataset_dir, folder, chosen).metrics["train_samples_per_second"]
        peak = peak_mib()
        return {"samples_per_second": rate, "peak_mib": peak, "accuracy": accuracy(folder, dataset_dir)[0]}


def measure(samples: int) -> dict[str, Any]:
    """Every lever with every seed; seed by seed, so that what changes about the machine hits all alike."""
    datasets.disable_progress_bars()
    points = []
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        prepare_reviews(Path(scratch) / "dataset", samples)
        for seed in SEEDS:
            for name, lever in LEVERS.items():
                if seed not in lever.seeds:
                    continue
                words = ["--only", name, "--seed", str(seed), "--dataset", f"{scratch}/dataset"]
                measured = in_a_process(MODULE, *words, "--samples", str(samples))
                points.append({"lever": name, "title": lever.title, "seed": seed, **measured})
                print(
                    f"{lever.title:<45} seed {seed} {measured['samples_per_second']:8.2f} samples/s "
                    f"{measured['peak_mib']:8,.0f} MiB  accuracy {measured['accuracy']:.3f}",
                    flush=True,
                )
    return {
        "machine": described("torch", "transformers", "accelerate"),
        "command": "make bench-levers",
        "samples": samples,
        "texts_in_step": TEXTS_IN_STEP,
        "test_rows": TEST_ROWS,
        "points": points,
    }


def main() -> int:
    """Measures, and writes the page's section."""
    parser = argparse.ArgumentParser("python -m benchmarks.levers", description=__doc__)
    parser.add_argument("--render-only", action="store_true", help="write the page from the last result")
    parser.add_argument("--samples", type=int, default=640, help="reviews that each training sees")
    parser.add_argument("--only", choices=LEVERS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--dataset", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measured = measure_here(options.only, options.seed, MINILM, options.dataset, options.samples)
        print(json.dumps(measured))
        return 0
    if not options.render_only:
        results.keep("levers", measure(options.samples))
    write_levers_page(results.last("levers"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
