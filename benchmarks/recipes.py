"""`make bench-recipes`: what each way to fine-tune does to what is learnt, on short and on long reviews."""

from __future__ import annotations

import argparse
import copy
import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from benchmarks import results
from benchmarks.film_reviews import reviews_of
from benchmarks.machine import described, in_a_process
from benchmarks.recipes_page import write_recipes_page
from benchmarks.training import MINILM
from miniml.data import preparation, prepared
from miniml.model import engines
from miniml.model.classifier import logits_of
from miniml.processor import has_bf16
from miniml.settings.choices import LAST
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.training import checkpoints, course
from miniml.training.batches import encode_split
from miniml.training.pretrained import Pretrained, find_pretrained
from miniml.training.targets import target_of
from miniml.training.time_limit import TimeLimit
from miniml.training.trainable import encoder_layers
from miniml.training.trainer import ClassifierTrainer

MODULE = "benchmarks.recipes"
SEEDS = (1, 2, 3)
ON = torch.device("cpu")
TRAINER = "ClassifierTrainer"
"""The name in `miniml.training.course` of what trains there."""

LAYER_DECAY = 0.8
AVERAGED = 0.3
"""The share of the steps, the last ones, over which weights are averaged, and every which step takes part."""
AVERAGED_EVERY = 5
POOLING_WEIGHT = 30.0
"""How much more the mean counts in the pooling layer than the token's own vector, which is added to it."""


@dataclass(frozen=True)
class Half:
    """One kind of reviews in the package, and how the demo's model learns from them."""

    title: str
    source: str
    train_rows: int
    test_rows: int
    """Of each seed; those of another seed are others."""
    settings: dict[str, Any]


HALVES = {
    "short": Half(
        "sentences of 21 words (Rotten Tomatoes)",
        "rotten_tomatoes",
        3000,
        1700,
        {"max_length": 64, "batch_size": 16},
    ),
    "long": Half(
        "reviews of 230 words (IMDB)",
        "imdb",
        640,
        1000,
        {"max_length": 256, "batch_size": 8, "truncation_side": "left"},
    ),
}
COMMON = {
    "learning_rate": 1e-4,
    "iterations": 0,
    "epochs": 1,
    "evaluations": 1,
    "best_by": LAST,
}


@dataclass(frozen=True)
class Recipe:
    """One way to fine-tune."""

    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of the train stage."""
    arrange: Callable[[], None] = lambda: None
    """Called before the training, for what is no argument; it changes this process for good."""


class LayerwiseTrainer(ClassifierTrainer):
    """Learns more slowly the lower a layer is: each by a fifth less than the one above it."""

    def create_optimizer(self, model: Any = None) -> Any:
        learner: Any = self.model
        layers = list(encoder_layers(learner))
        depth = {id(weights): number for number, layer in enumerate(layers) for weights in layer.parameters()}
        embeddings = {id(weights) for weights in learner.base_model.embeddings.parameters()}
        groups: dict[int, list[torch.nn.Parameter]] = {}
        for weights in filter(lambda one: one.requires_grad, learner.parameters()):
            below = (
                len(layers) - 1 - depth.get(id(weights), -1 if id(weights) in embeddings else len(layers) - 1)
            )
            groups.setdefault(below, []).append(weights)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": group, "lr": self.args.learning_rate * LAYER_DECAY**below}
                for below, group in groups.items()
            ],
            weight_decay=self.args.weight_decay,
            fused=True,
        )
        return self.optimizer


class AveragingTrainer(ClassifierTrainer):
    """Ends with the mean of the weights of its last steps."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.add_callback(_Averaging())


class _Averaging(TrainerCallback):
    def __init__(self) -> None:
        self._mean: dict[str, torch.Tensor] = {}
        self._taken = 0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **about: Any
    ) -> None:
        step, last = state.global_step, state.max_steps
        if step >= (1 - AVERAGED) * last and (step % AVERAGED_EVERY == 0 or step == last):
            self._taken += 1
            for name, weights in _learning(about["model"]):
                mean = self._mean.setdefault(name, weights.detach().clone())
                mean.lerp_(weights.detach(), 1 / self._taken)
        if step == last:
            with torch.no_grad():
                for name, weights in _learning(about["model"]):
                    weights.copy_(self._mean[name])


def _learning(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, weights) for name, weights in model.named_parameters() if weights.requires_grad]


def _train_by(trainer: type[ClassifierTrainer]) -> None:
    setattr(course, TRAINER, trainer)


def _pool_the_mean() -> None:
    """Has the classifier read the mean of all tokens, as this encoder was pretrained, and not the first one.

    BERT's classifier in transformers reads the first token. A further layer, whose attention begins as the mean, puts
    the mean there, so that transformers still loads the model; it takes a sixth more time.
    """
    usual = Pretrained.classifier

    def with_pooling_layer(self: Pretrained) -> tuple[Any, set[str], set[str]]:
        model, new, drawn = usual(self)
        layers = model.bert.encoder.layer
        layer = copy.deepcopy(layers[-1])
        for module in layer.modules():
            if hasattr(module, "config"):
                module.config = model.config
        unit = torch.eye(model.config.hidden_size)
        with torch.no_grad():
            for weights in layer.parameters():
                weights.zero_()
            layer.attention.self.value.weight.copy_(unit)
            layer.attention.output.dense.weight.copy_(POOLING_WEIGHT * unit)
            layer.attention.output.LayerNorm.weight.fill_(1)
            layer.output.LayerNorm.weight.fill_(1)
            torch.nn.init.normal_(layer.intermediate.dense.weight, std=0.02)
            model.bert.pooler.dense.weight.copy_(unit / 2)  # Within tanh's nearly linear part.
            model.bert.pooler.dense.bias.zero_()
        layers.append(layer)
        model.config.num_hidden_layers += 1
        return model, new, drawn

    Pretrained.classifier = with_pooling_layer  # type: ignore[method-assign]


RECIPES = {
    "before": Recipe(
        "a random head; the two lowest layers stay", {"linear_probe": False, "frozen_layers": 2}
    ),
    "random-head": Recipe("a random head; all layers learn", {"linear_probe": False}),
    "default": Recipe("**a linear probe first; all layers learn**"),
    "lowest-stays": Recipe("… but the embeddings and the lowest layer", {"frozen_layers": 1}),
    "layer-wise": Recipe(
        "… each by a fifth less than the one above it", arrange=lambda: _train_by(LayerwiseTrainer)
    ),
    "averaging": Recipe("… the mean of the last steps' weights", arrange=lambda: _train_by(AveragingTrainer)),
    "mean-pooling": Recipe("… reading the mean of all tokens", arrange=_pool_the_mean),
}


def write_rows(half: Half, seed: int, folder: Path) -> None:
    """Writes train.csv and test.csv; every row of the package's is in the test of at most one seed."""
    labels = {text.strip(): label for text, label in reviews_of(half.source)}
    rows = list(labels.items())
    order = np.random.default_rng(0).permutation(len(rows))
    begin = SEEDS.index(seed) * half.test_rows
    test = order[begin : begin + half.test_rows]
    rest = np.random.default_rng(seed).permutation(np.setdiff1d(order, test, assume_unique=True))
    for name, chosen in (("train", rest[: half.train_rows]), ("test", test)):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(("text", "label"))
            table.writerows(rows[number] for number in chosen)


def measure_here(
    recipe: str, model_id: str, rows: Path, seed: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Trains by one recipe in this process, which is of no use for another one afterwards, and tests the model."""
    chosen = RECIPES[recipe]
    chosen.arrange()
    training = TrainingSettings(
        model_id=model_id, seed=seed, checkpoints="none", **{**COMMON, **settings, **chosen.settings}
    )
    with tempfile.TemporaryDirectory(prefix="miniml-") as name:
        scratch = Path(name)
        # The texts that are left out as duplicates are few; all of them would be others in the test.
        preparation.prepare(
            DataSettings(dataset_id=str(rows), max_rows=0, near_duplicates="report", seed=seed),
            scratch / "dataset",
        )
        splits, summary = prepared.load(scratch / "dataset", ("train", "validation", "test"))
        target = target_of(summary, splits["train"]["label"][:], training)
        pretrained = Pretrained.load(find_pretrained(model_id)[0], target.head, training)
        encoded = {
            split: encode_split(table, target, pretrained.tokenizer, scratch / split)
            for split, table in splits.items()
        }
        begin = time.perf_counter()
        with checkpoints.checkpointing("", training) as kept:
            finished = course.train(
                pretrained, target, encoded, ON, scratch / "model", kept, (), TimeLimit(0), training
            )
        seconds = time.perf_counter() - begin
        test = encoded["test"]
        with torch.autocast("cpu", torch.bfloat16) if has_bf16(ON) else nullcontext():
            logits = logits_of(
                engines.TorchEngine(engines.REFERENCE, finished.model.eval()),
                pretrained.tokenizer,
                target.head.width,
                test.first(len(test)),
            )
    scores = torch.log_softmax(torch.from_numpy(logits).double(), dim=1)
    losses = -scores[torch.arange(len(scores)), torch.from_numpy(test.labels)]
    return {
        "seconds": seconds,
        "train_rows": summary.rows["train"],
        "right": (logits.argmax(axis=1) == test.labels).astype(int).tolist(),
        "losses": [round(loss, 5) for loss in losses.tolist()],
    }


def measure(halves: list[str], recipes: list[str]) -> dict[str, Any]:
    """Every recipe on every half with every seed; seed by seed, so that what changes about the machine hits all alike.

    What was measured is kept at once: a run that was ended goes on where it stood.
    """
    datasets.disable_progress_bars()
    points = results.last("recipes")["points"] if results.there("recipes") else []
    for seed in SEEDS:
        for half in halves:
            for recipe in recipes:
                place = {"half": half, "seed": seed, "recipe": recipe}
                if any(place.items() <= point.items() for point in points):
                    continue
                measured = in_a_process(MODULE, "--only", recipe, "--half", half, "--seed", str(seed))
                points.append({**place, **measured})
                results.keep("recipes", _result(points))
                print(
                    f"{half:<6} seed {seed} {recipe:<13} accuracy {np.mean(measured['right']):.4f}  "
                    f"log loss {np.mean(measured['losses']):.4f}  {measured['seconds']:4.0f} s",
                    flush=True,
                )
    return _result(points)


def _result(points: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "machine": described("torch", "transformers", "accelerate"),
        "command": "make bench-recipes",
        "titles": {name: recipe.title for name, recipe in RECIPES.items()},
        "halves": {name: half.title for name, half in HALVES.items()},
        "points": points,
    }


def main() -> int:
    """Measures, and writes the page's section."""
    parser = argparse.ArgumentParser("python -m benchmarks.recipes", description=__doc__)
    parser.add_argument("--render-only", action="store_true", help="write the page from the last result")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--half", action="append", choices=HALVES, help="these reviews only")
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="these ways only")
    parser.add_argument("--only", choices=RECIPES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        half = HALVES[options.half[0]]
        with tempfile.TemporaryDirectory(prefix="miniml-") as rows:
            write_rows(half, options.seed, Path(rows))
            print(json.dumps(measure_here(options.only, MINILM, Path(rows), options.seed, half.settings)))
        return 0
    if options.fresh:
        results.forget("recipes")
    if not options.render_only:
        results.keep("recipes", measure(options.half or [*HALVES], options.recipe or [*RECIPES]))
    write_recipes_page(results.last("recipes"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
