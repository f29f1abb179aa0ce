"""`make bench-compress`: how many more texts a second a model answers with fewer of its layers."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks import results
from benchmarks.film_reviews import reviews_of
from benchmarks.machine import described
from benchmarks.page import DOCS, PAGE, measured_on, put_section
from benchmarks.training import MINILM
from miniml.compression.layers import keep_layers, number_of_layers, spread
from miniml.compression.speed import measure, on_fastest_engine
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.processor import threads_within_quota
from miniml.training.pretrained import find_pretrained

NAME = "compress"
WANTED = 2.0
"""How many times as fast a half of the layers is to be."""


@dataclass(frozen=True)
class Half:
    """One kind of reviews in the package."""

    title: str
    source: str
    max_length: int
    texts: int


HALVES = {
    "short": Half("sentences (Rotten Tomatoes)", "rotten_tomatoes", 64, 128),
    "long": Half("reviews (IMDB), cut at 256 tokens", "imdb", 256, 64),
}


def measure_here(model_id: str, half: Half, texts: Sequence[str]) -> dict[str, Any]:
    """Measures a classifier, and what is left of it with fewer layers, in turns.

    None is trained, as speed does not depend on the weights.

    Args:
        model_id: The encoder.
        half: The kind of reviews.
        texts: The reviews.
    """
    with tempfile.TemporaryDirectory(prefix="miniml-") as name, threads_within_quota():
        full = _write_classifier(Path(name) / "full", model_id, half.max_length)
        layers = number_of_layers(full)
        folders = {layers: full}
        for kept in _fewer(layers):
            folders[kept] = Path(name) / str(kept)
            keep_layers(full, spread(layers, kept), folders[kept])
        loaded = [Classifier.load(folder) for folder in folders.values()]
        served = [
            on_fastest_engine(classifier, folder, texts)
            for classifier, folder in zip(loaded, folders.values(), strict=True)
        ]
        lengths = [len(ids) for ids in loaded[0].encode(texts)]
        speeds = measure(served, texts)
    return {
        "title": half.title,
        "tokens": sum(lengths) / len(lengths),
        "points": [{"layers": kept, **asdict(speed)} for kept, speed in zip(folders, speeds, strict=True)],
    }


def _fewer(layers: int) -> list[int]:
    """Returns the numbers of layers that are tried: two thirds, a half, a third, and one."""
    return sorted(
        {max(1, round(layers * share)) for share in (2 / 3, 1 / 2, 1 / 3, 0)} - {layers}, reverse=True
    )


def _write_classifier(folder: Path, model_id: str, max_length: int) -> Path:
    """Writes a signed model folder with a head of random weights."""
    source, _ = find_pretrained(model_id)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=2, dtype=torch.float32)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, model_max_length=max_length).save_pretrained(folder)
    manifest.sign(folder, data={}, arguments={}, versions={}, metrics={})
    return folder


def read_reviews(half: Half) -> list[str]:
    """Reads as many of the package's reviews as are measured."""
    texts = [text for text, _ in reviews_of(half.source)]
    return texts[:: len(texts) // half.texts][: half.texts]


def section(result: dict[str, Any]) -> str:
    """Returns what the run showed, as Markdown."""
    halves = result["halves"].values()
    heads = [f"{half['title']}, {half['tokens']:.0f} tokens in the mean" for half in halves]
    rows = "\n".join(_row(points) for points in zip(*(half["points"] for half in halves), strict=True))
    aims = "\n".join(
        f"| texts/s with half of the layers, to all: {name} | {ratio:.2f} | ≥ {WANTED:g} | "
        f"{'yes' if ratio >= WANTED else '**no**'} |"
        for name, ratio in _of_half_the_layers(result).items()
    )
    return f"""
## Fewer layers, {result["machine"]["kind"]}

{measured_on(result)}
MiniLM-L6, cut and not trained, as speed does not depend on the weights; each on the engine that is fastest here.
Medians of five rounds in turn.

| layers | {" | ".join(heads)} |
|---|{"---|" * len(heads)}
{rows}

| aim | reached | wanted | |
|---|---|---|---|
{aims}
"""


def _row(points: Sequence[dict[str, Any]]) -> str:
    cells = [
        f"**{point['ratio']:.2f}** ({point['texts_per_second']:,.0f} texts/s, {point['engine']})"
        for point in points
    ]
    return f"| {points[0]['layers']} | {' | '.join(cells)} |"


def _of_half_the_layers(result: dict[str, Any]) -> dict[str, float]:
    """Returns, for each kind of reviews, how many times as fast as the full model a half of it is."""
    found = {}
    for name, half in result["halves"].items():
        ratios = {point["layers"]: point["ratio"] for point in half["points"]}
        found[name] = ratios[max(ratios) // 2]
    return found


def main() -> int:
    """Measures, and writes the page's section for this kind of processor."""
    argparse.ArgumentParser("python -m benchmarks.compress", description=__doc__).parse_args()
    halves = {name: measure_here(MINILM, half, read_reviews(half)) for name, half in HALVES.items()}
    result: dict[str, Any] = {
        "machine": described("torch", "transformers", "openvino"),
        "command": "make bench-compress",
        "halves": halves,
    }
    results.keep(NAME, result)
    put_section(NAME, section(result), result["machine"]["kind"])
    print(f"{PAGE.relative_to(DOCS.parent)} is written\n\n{section(result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
