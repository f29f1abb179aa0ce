"""What the model reads: texts as tokens, in which order, and how many of them in one pass."""

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

# Texts that are tokenized at a time: enough for the tokenizer's threads, and not much to hold.
TEXTS_AT_A_TIME = 1000
# Steps' worth of texts that are sorted by their lengths together, and the share of all steps that they may be. Where
# a class has longer texts than another, sorting them all would make steps that see one class only.
STEPS_IN_WINDOW = 50
SHARE_OF_STEPS_IN_WINDOW = 0.2
# Padded tokens in one forward and backward pass. On a processor, 16 texts of 256 tokens keep it as busy as more
# would, and what has to be kept for the way back does not grow further. A GPU is busy with larger ones only.
TOKENS_IN_PASS = {"cpu": 4096}
TOKENS_IN_PASS_ON_A_GPU = 32768


class EncodedTexts(torch.utils.data.Dataset[dict[str, Any]]):
    """The texts of a split as tokens, which lie one after another in a file, and their labels."""

    def __init__(self, tokens: npt.NDArray[np.int32], lengths: Sequence[int], labels: Any) -> None:
        self.lengths = np.array(lengths, dtype=np.int64)
        """Tokens of each text, shape [texts]."""
        self.labels = np.asarray(labels)
        """One entry a text, shape [texts, ...]."""
        self._tokens = tokens
        self._ends = self.lengths.cumsum()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.token_ids(index), "labels": self.labels[index]}

    def token_ids(self, index: int) -> TokenIds:
        """The tokens of one text, shape [tokens]."""
        end = self._ends[index]
        return np.array(self._tokens[end - self.lengths[index] : end], dtype=np.int64)

    @property
    def shortest(self) -> dict[str, Any]:
        """The text with the fewest tokens."""
        return self[int(self.lengths.argmin())]

    def first(self, texts: int) -> list[TokenIds]:
        """The tokens of the first `texts` texts, or of all where there are fewer."""
        return [self.token_ids(index) for index in range(min(texts, len(self)))]


def encode_split(table: datasets.Dataset, target: Target, tokenizer: Any, file: Path) -> EncodedTexts:
    """Tokenizes a split once, cut to the tokenizer's maximal length. The tokens go into `file`, not into memory."""
    progress = Progress("tokenizing", len(table), "texts")
    lengths: list[int] = []
    with file.open("wb") as tokens:
        for rows in table.select_columns("text").iter(TEXTS_AT_A_TIME):
            encoded = encode(tokenizer, rows["text"])
            np.concatenate(encoded).astype(np.int32).tofile(tokens)
            lengths += [len(ids) for ids in encoded]
            progress.report(len(lengths))
    return EncodedTexts(np.memmap(file, np.int32, mode="r"), lengths, target.encoded(table["label"][:]))


class LengthGrouped(torch.utils.data.Sampler[int]):
    """An order of texts in which the texts of a step are of like length, so that they are padded least.

    It follows from the seed and the epoch alone: a training that is taken up again sees what it would have seen.
    """

    def __init__(self, lengths: npt.NDArray[np.int64], texts_in_step: int, seed: int) -> None:
        self._lengths, self._texts_in_step, self._seed = lengths, texts_in_step, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        draw = np.random.default_rng([self._seed, self.epoch])
        order = draw.permutation(len(self._lengths))
        whole = len(order) - len(order) % self._texts_in_step
        most = SHARE_OF_STEPS_IN_WINDOW * whole / self._texts_in_step
        window = max(1, round(min(STEPS_IN_WINDOW, most))) * self._texts_in_step
        steps: list[npt.NDArray[np.int64]] = []
        for begin in range(0, whole, window):
            texts = self._by_length(order[begin : min(begin + window, whole)])
            steps += list(texts.reshape(-1, self._texts_in_step))
        for number in draw.permutation(len(steps)):
            yield from steps[number].tolist()
        yield from self._by_length(order[whole:]).tolist()  # The step that is not full is the last.

    def _by_length(self, texts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return texts[self._lengths[texts].argsort(kind="stable")]


class SharedBatches:
    """The batches that one process would take, each as the parts of it that several processes take at once.

    What is iterated over are the parts, as lists of texts: of the first batch those of each process by rank, of the
    second, and so on. accelerate deals batches of no fixed size to the processes in turn, so each gets its own. The
    last batch may have fewer texts than there are processes: then some parts are empty. (accelerate's own way to share
    repeats texts of the beginning there, which then count twice.)
    """

    def __init__(self, order: LengthGrouped | Sequence[int], size: int, processes: int) -> None:
        """`size` is the number of texts of a batch, of all processes."""
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
    tokenizer: Any, stand_in: dict[str, Any], rows: Sequence[dict[str, Any]]
) -> dict[str, torch.Tensor]:
    """One batch of `EncodedTexts`: tokens and attention mask of shape [rows, longest], labels of shape [rows, ...].

    Where there are no rows, the model reads `stand_in`, and there are no labels: a process that has none takes part in
    a step all the same, or the others would wait for it.
    """
    read = rows or [stand_in]
    token_ids, attention_mask = padded(tokenizer, [row["input_ids"] for row in read])
    return {
        "input_ids": torch.from_numpy(token_ids),
        "attention_mask": torch.from_numpy(attention_mask),
        "labels": torch.from_numpy(np.stack([row["labels"] for row in read])[: len(rows)]),
    }


def passes(batch: dict[str, torch.Tensor], budget: int, padding_side: str) -> list[dict[str, torch.Tensor]]:
    """Parts of a batch, of texts of like length, that have at most `budget` tokens each when they are padded."""
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
    """How many padded tokens one pass may have on this device."""
    return TOKENS_IN_PASS.get(device.type, TOKENS_IN_PASS_ON_A_GPU)
