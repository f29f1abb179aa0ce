"""Tokenizes the texts of a split, orders them, and divides them into batches and micro-batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import torch

from miniml.model.classifier import batches_of_like_length, encode, padded
from miniml.model.engines import TokenIds
from miniml.progress import Progress
from miniml.training.targets import Target

# Enough texts at a time to keep the tokenizer's threads busy, and little memory.
TEXTS_AT_A_TIME = 1000
# The steps whose texts are sorted by length together, at most, and their share of all steps, at most. If one class has
# longer texts than another, sorting all texts would make steps that see only one class.
STEPS_IN_WINDOW = 50
SHARE_OF_STEPS_IN_WINDOW = 0.2
# The padded tokens in one forward and backward pass (a micro-batch), at most. 16 texts of 256 tokens keep a CPU as busy
# as more would, and limit the activations that the backward pass needs. A GPU needs more to be busy.
TOKENS_IN_PASS = {"cpu": 4096}
TOKENS_IN_PASS_ON_A_GPU = 32768


class EncodedTexts(torch.utils.data.Dataset[dict[str, Any]]):
    """The tokens of a split's texts, one after another in a memory-mapped file, and their labels."""

    def __init__(self, tokens: npt.NDArray[np.int32], lengths: Sequence[int], labels: Any) -> None:
        """Keeps the arrays.

        Args:
            tokens: The token ids of all texts, shape [tokens].
            lengths: The number of tokens of each text.
            labels: One entry for each text, shape [texts, ...].
        """
        self.lengths = np.array(lengths, dtype=np.int64)
        """The number of tokens of each text, shape [texts]."""
        self.labels = np.asarray(labels)
        """One entry for each text, shape [texts, ...]."""
        self._tokens = tokens
        self._ends = self.lengths.cumsum()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.token_ids(index), "labels": self.labels[index]}

    def token_ids(self, index: int) -> TokenIds:
        """Returns the tokens of one text, shape [tokens]."""
        end = self._ends[index]
        return np.array(self._tokens[end - self.lengths[index] : end], dtype=np.int64)

    def with_labels(self, labels: Any) -> EncodedTexts:
        """Returns the same texts with other labels, one entry for each text."""
        return EncodedTexts(self._tokens, self.lengths.tolist(), labels)

    @property
    def shortest(self) -> dict[str, Any]:
        """The text with the fewest tokens."""
        return self[int(self.lengths.argmin())]

    def first(self, texts: int) -> list[TokenIds]:
        """Returns the tokens of the first `texts` texts, or of all if there are fewer."""
        return [self.token_ids(index) for index in range(min(texts, len(self)))]


def encode_split(dataset: datasets.Dataset, target: Target, tokenizer: Any, file: Path) -> EncodedTexts:
    """Tokenizes a split, and writes the tokens to a file instead of keeping them in memory.

    Args:
        dataset: The split, with the columns "text" and "label".
        target: Encodes the labels.
        tokenizer: The model's tokenizer; texts are cut to its maximal length.
        file: The file to write; it is mapped into memory afterwards.
    """
    progress = Progress("tokenizing", len(dataset), "texts")
    lengths: list[int] = []
    with file.open("wb") as tokens:
        for rows in dataset.select_columns("text").iter(TEXTS_AT_A_TIME):
            encoded = encode(tokenizer, rows["text"])
            np.concatenate(encoded).astype(np.int32).tofile(tokens)
            lengths += [len(ids) for ids in encoded]
            progress.report(len(lengths))
    return EncodedTexts(np.memmap(file, np.int32, mode="r"), lengths, target.encoded(dataset["label"][:]))


class LengthGrouped(torch.utils.data.Sampler[int]):
    """Draws a random order in which the texts of a step have similar lengths, so that they need little padding.

    The order depends only on the seed and the epoch, so a training that resumes sees the texts it would have seen.
    """

    def __init__(self, lengths: npt.NDArray[np.int64], texts_in_step: int, seed: int) -> None:
        """Begins at epoch 0.

        Args:
            lengths: The number of tokens of each text, shape [texts].
            texts_in_step: The texts of an optimizer step, of all processes.
            seed: Draws the order, together with the attribute `epoch`.
        """
        self._lengths, self._texts_in_step, self._seed = lengths, texts_in_step, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        draw = np.random.default_rng([self._seed, self.epoch])
        order = draw.permutation(len(self._lengths))
        whole = len(order) - len(order) % self._texts_in_step
        max_steps = SHARE_OF_STEPS_IN_WINDOW * whole / self._texts_in_step
        window = max(1, round(min(STEPS_IN_WINDOW, max_steps))) * self._texts_in_step
        steps: list[npt.NDArray[np.int64]] = []
        for begin in range(0, whole, window):
            texts = self._by_length(order[begin : min(begin + window, whole)])
            steps += list(texts.reshape(-1, self._texts_in_step))
        for number in draw.permutation(len(steps)):
            yield from steps[number].tolist()
        yield from self._by_length(order[whole:]).tolist()  # The step that is not full comes last.

    def _by_length(self, texts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return texts[self._lengths[texts].argsort(kind="stable")]


class SharedBatches:
    """Divides each batch among several processes.

    Iterating gives the parts, as lists of row numbers: the part of each process by rank for the first batch, then for
    the second, and so on. accelerate deals them to the processes in turn. If the last batch has fewer texts than there
    are processes, some parts are empty. (accelerate's own sharding would repeat the first texts there, which would then
    count twice.)
    """

    def __init__(self, order: LengthGrouped | Sequence[int], size: int, processes: int) -> None:
        """Divides batches of `size` texts, which all processes train on together, in the order of `order`."""
        self._order, self._size, self._processes = order, size, processes

    def __len__(self) -> int:
        return -(-len(self._order) // self._size) * self._processes

    def __iter__(self) -> Iterator[list[int]]:
        texts = iter(self._order)
        while batch := list(itertools.islice(texts, self._size)):
            for rank in range(self._processes):
                begin, end = (len(batch) * number // self._processes for number in (rank, rank + 1))
                yield batch[begin:end]


def collate(
    tokenizer: Any, placeholder: dict[str, Any], rows: Sequence[dict[str, Any]]
) -> dict[str, torch.Tensor]:
    """Pads rows of `EncodedTexts` into a batch.

    Args:
        tokenizer: The model's tokenizer, which pads.
        placeholder: A row to read if there are none: every process must take part in a step, or the others wait.
        rows: The rows; they may be none.

    Returns:
        Tokens and attention mask of shape [rows, longest], and labels of shape [rows, ...], without the placeholder's.
    """
    texts = rows or [placeholder]
    token_ids, attention_mask = padded(tokenizer, [row["input_ids"] for row in texts])
    return {
        "input_ids": torch.from_numpy(token_ids),
        "attention_mask": torch.from_numpy(attention_mask),
        "labels": torch.from_numpy(np.stack([row["labels"] for row in texts])[: len(rows)]),
    }


def passes(batch: dict[str, torch.Tensor], budget: int, padding_side: str) -> list[dict[str, torch.Tensor]]:
    """Divides a batch into micro-batches of texts of similar length.

    Args:
        batch: The batch, as `collate` makes it.
        budget: The padded tokens of a micro-batch, at most; a longer text makes one of its own.
        padding_side: "right" or "left", as the batch is padded.
    """
    lengths = batch["attention_mask"].sum(dim=1)
    if batch["attention_mask"].numel() <= budget or len(lengths) == 1:
        return [batch]
    parts = []
    for rows in batches_of_like_length(lengths.tolist(), budget):
        longest = int(lengths[rows].max())
        columns = slice(-longest, None) if padding_side == "left" else slice(longest)
        part = {name: tensor[rows] for name, tensor in batch.items()}
        parts.append(part | {name: part[name][:, columns] for name in ("input_ids", "attention_mask")})
    return parts


def tokens_in_pass(device: torch.device) -> int:
    """Returns the most padded tokens that one forward and backward pass may have on this device."""
    return TOKENS_IN_PASS.get(device.type, TOKENS_IN_PASS_ON_A_GPU)
