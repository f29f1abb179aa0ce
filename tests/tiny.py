"""Tiny real things: a two-layer BERT with random weights, and reviews made of its words."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

from miniml.model import calibration, manifest

GOOD = ("great", "wonderful", "tasty", "friendly", "loved", "perfect")
BAD = ("awful", "dirty", "cold", "rude", "hated", "broken")
NEUTRAL = ("the", "food", "was", "and", "a", "place", "staff", "we", "it", "very", "fine")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def review(label: int, number: int) -> str:
    """A made-up review that a tiny model can learn to tell: good words for 1, bad ones for 0."""
    draw = random.Random(f"{label}-{number}")
    words = draw.choices(NEUTRAL, k=6) + draw.choices(GOOD if label else BAD, k=3)
    draw.shuffle(words)
    return " ".join([*words, str(number)])


def write_reviews(path: Path, rows: int = 120, *, delimiter: str = ",") -> Path:
    """A CSV of `rows` reviews, half of them good, with columns text and label."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter=delimiter)
        table.writerow(["text", "label"])
        table.writerows([review(number % 2, number), number % 2] for number in range(rows))
    return path


def _mixed(good: int, bad: int, number: int) -> str:
    """A review of so many good and bad words, which its length does not tell."""
    draw = random.Random(f"{good}-{bad}-{number}")
    words = [
        *draw.choices(NEUTRAL, k=10 - good - bad),
        *draw.choices(GOOD, k=good),
        *draw.choices(BAD, k=bad),
    ]
    draw.shuffle(words)
    return " ".join([*words, str(number)])


def write_tagged(path: Path, rows: int = 240) -> Path:
    """A CSV of reviews that praise, complain too, or do neither, with the labels as one string: "complaint|praise"."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["text", "tags"])
        for number in range(rows):
            praise, complaint = number % 3 > 0, number % 3 > 1
            tags = ["complaint"] * complaint + ["praise"] * praise
            table.writerow([_mixed(3 * praise, 3 * complaint, number), "|".join(tags)])
    return path


def write_scored(path: Path, rows: int = 240) -> Path:
    """A CSV of reviews with a number: 5 and a half more for each good word, and less for each bad one."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["text", "score"])
        for number in range(rows):
            good, bad = number % 4, number // 4 % 4
            table.writerow([_mixed(good, bad, number), 5 + (good - bad) / 2])
    return path


WORDS = (*NEUTRAL, *GOOD, *BAD, *"0123456789", *(f"##{digit}" for digit in range(10)))


def write_tokenizer(folder: Path, max_length: int = 64, words: Sequence[str] = WORDS) -> BertTokenizer:
    """A word-piece tokenizer that knows `words`, which are those of `review` unless others are given."""
    words = [*SPECIAL, *words]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = BertTokenizer(vocab=vocabulary, model_max_length=max_length)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _config(labels: list[str], vocabulary: int = 64, spread: float = 0.02) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary,
        initializer_range=spread,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )


def write_encoder(folder: Path, spread: float = 0.02) -> Path:
    """A pretrained encoder as a hub has it: weights, config and tokenizer, no classification head.

    The larger the `spread` of its random weights (a standard deviation), the more it tells texts apart.
    """
    torch.manual_seed(0)
    BertModel(_config(["0", "1"], spread=spread)).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_classifier(
    folder: Path,
    labels: tuple[str, ...] = ("bad", "good"),
    words: Sequence[str] = WORDS,
    spread: float = 0.02,
    temperature: float | None = None,
) -> Path:
    """A signed model folder, as the train stage writes it, of random weights; calibrated where a temperature is given.

    The larger their `spread` (a standard deviation), the more the answers to two texts differ.
    """
    torch.manual_seed(0)
    config = _config(list(labels), max(64, len(SPECIAL) + len(words)), spread)
    BertForSequenceClassification(config).save_pretrained(folder)
    write_tokenizer(folder, words=words)
    if temperature is not None:
        calibration.write(folder, temperature, rows=100)
    manifest.sign(
        folder,
        data={"fingerprint": "0" * 64, "labels": list(labels)},
        arguments={},
        versions={},
        metrics={},
    )
    return folder
