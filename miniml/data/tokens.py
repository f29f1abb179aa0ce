"""Measures texts in the tokens of the model that will read them, with its tokenizer alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from tokenizers import Tokenizer

from miniml.data.pool import Ints
from miniml.errors import MinimlError
from miniml.sources.address import locate

# Rows are shuffled, so the first of them are a sample: with 5,000, a fraction is within 1.4 points.
TEXTS_MEASURED = 5000
TOKENIZER = "tokenizer.json"
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Lengths:
    """The lengths of the first texts of each split, in `unit`."""

    of_split: dict[str, Ints]
    """The lengths of each split's texts, of shape (texts,)."""
    max_length: int
    """The number of tokens that the model reads of a text."""
    trouble: str = ""
    """The reason why words and punctuation marks are counted instead of tokens; "" if tokens are."""

    @property
    def unit(self) -> str:
        """The unit of the lengths, in the plural."""
        return "words and marks" if self.trouble else "tokens"

    @property
    def all(self) -> Ints:
        """The lengths of all splits' texts, of shape (texts,)."""
        return np.concatenate(list(self.of_split.values()))

    def figures(self) -> dict[str, float]:
        """Returns median, 95th percentile, maximum, and the fractions of texts and tokens that `max_length` cuts."""
        lengths = self.all
        if not len(lengths):
            return {}
        return {
            "median": float(np.median(lengths)),
            "percentile_95": float(np.percentile(lengths, 95)),
            "longest": float(lengths.max()),
            "texts_cut": float((lengths > self.max_length).mean()),
            "tokens_cut": float(np.maximum(lengths - self.max_length, 0).sum() / lengths.sum()),
        }


def measure(splits: dict[str, datasets.Dataset], model_id: str, max_length: int) -> Lengths:
    """Measures the first texts of each split, with special tokens.

    If the tokenizer is missing, words and punctuation marks are counted instead, and the result says why: a report must
    not end a run. If the whole model is missing, training says so.

    Args:
        splits: The splits of a prepared dataset.
        model_id: The model.
        max_length: The number of tokens that the model reads of a text.
    """
    texts = {split: list(dataset[:TEXTS_MEASURED]["text"]) for split, dataset in splits.items()}
    try:
        tokenizer = _tokenizer(model_id)
    except MinimlError as error:
        words = {split: [len(_WORD.findall(text)) for text in of_split] for split, of_split in texts.items()}
        return Lengths(_arrays(words), max_length, trouble=str(error))
    return Lengths(
        _arrays({split: _token_counts(tokenizer, of_split) for split, of_split in texts.items()}), max_length
    )


def _arrays(lengths: dict[str, list[int]]) -> dict[str, Ints]:
    return {split: np.array(of_split, np.int64) for split, of_split in lengths.items()}


def _token_counts(tokenizer: Any, texts: list[str]) -> list[int]:
    counts: list[int] = []
    for begin in range(0, len(texts), 500):  # Encodings are large; their lengths are not.
        counts += [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts[begin : begin + 500])]
    return counts


def _tokenizer(model_id: str) -> Any:
    file = _file(model_id)
    if not file.is_file():
        raise MinimlError(f"model_id {model_id!r} has no {TOKENIZER}")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # The library raises nothing narrower.
        raise MinimlError(f"model_id {model_id!r}: {TOKENIZER} cannot be read ({error})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _file(model_id: str) -> Path:
    """Returns the tokenizer's file, which is fetched without the rest of the model."""
    return locate("model_id", model_id).fetch_file(TOKENIZER)
