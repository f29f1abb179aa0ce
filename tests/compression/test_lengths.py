"""A model that reads less of a text: which lengths are tried, and that its figures are its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from miniml.compression.lengths import lengths_of_training, shorten, shorter_lengths
from miniml.data import prepared
from miniml.model import manifest, probes
from miniml.model.classifier import Classifier

SHORT = 8


def test_lengths_are_tried_that_save_a_tenth_of_the_tokens_each() -> None:
    assert shorter_lengths(np.full(10, 400), 256) == [128, 64]
    assert shorter_lengths(np.array([200] * 91 + [1000] * 9), 512) == [200, 128, 64]
    assert shorter_lengths(np.array([100] * 95 + [1000] * 5), 512) == [128, 64]


def test_none_is_tried_where_texts_are_short_or_the_model_reads_no_more_already() -> None:
    assert shorter_lengths(np.full(10, 30), 256) == []
    assert shorter_lengths(np.array([30] * 99 + [400]), 256) == []
    assert shorter_lengths(np.full(10, 400), 64) == []


def test_a_shortened_model_has_the_same_weights_and_reads_less(
    dataset_dir: Path, model_dir: Path, tmp_path: Path
) -> None:
    lengths = lengths_of_training(dataset_dir, model_dir)
    assert lengths.min() > SHORT
    full = manifest.verify(model_dir)
    signed = shorten(dataset_dir, model_dir, SHORT, lengths, tmp_path / "short")
    assert signed == manifest.verify(tmp_path / "short")
    assert signed.digest != full.digest
    same = ["model.safetensors", "config.json", "learnt_texts.safetensors", "openvino/openvino_model.bin"]
    assert [signed.files[name] for name in same] == [full.files[name] for name in same]
    assert signed.arguments["shortened"] == {"digest": full.digest, "max_length": 32}
    shorter = Classifier.load(tmp_path / "short")
    assert shorter.max_length == SHORT
    [ids] = shorter.encode(["the food was great " * 9])
    assert len(ids) == SHORT
    assert max(map(len, probes.read(tmp_path / "short"))) == SHORT


def test_the_figures_of_a_shortened_model_are_measured_at_its_length(
    dataset_dir: Path, model_dir: Path, tmp_path: Path
) -> None:
    signed = shorten(
        dataset_dir, model_dir, SHORT, lengths_of_training(dataset_dir, model_dir), tmp_path / "short"
    )
    validation = prepared.load(dataset_dir, ("validation",))[0]["validation"]
    probabilities = Classifier.load(tmp_path / "short").predict_probabilities(validation["text"][:])
    right = probabilities.argmax(axis=1) == np.array(validation["label"][:])
    assert signed.metrics["validation_accuracy"] == np.mean(right)
    full = manifest.read(model_dir)
    assert signed.metrics.keys() == full.metrics.keys()
    assert signed.metrics["texts_cut"] == 1.0
    assert signed.metrics["temperature"] != full.metrics["temperature"]
    card = (tmp_path / "short" / "README.md").read_text()
    assert f"It reads {SHORT} tokens of a text" in card
    assert "was not learnt from" not in card
    assert f"weights of the model with digest {full.digest[:12]}" in card
