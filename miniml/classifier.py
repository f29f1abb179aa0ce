"""A trained model, ready to answer: evaluation and serving both use this one.

Because the report and the service call the same code, the model that was tested is the model that
is served, down to its tokenizer, its truncation and its label names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from miniml.errors import InputError, ModelFolderError
from miniml.manifest import Manifest, verify

# Padded tokens in one forward pass. Large batches amortise the cost of a call, but past some
# thousands of tokens the activations fall out of the cache.
TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class Prediction:
    """The answer for one text."""

    label: str
    score: float
    """The probability of `label`, the largest of them."""
    probabilities: dict[str, float]
    """Every class's probability by its name, in the model's order; they sum to 1."""


class Classifier:
    """Predicts class probabilities of texts."""

    def __init__(self, model: Any, tokenizer: Any, manifest: Manifest) -> None:
        self.manifest = manifest
        self.labels: tuple[str, ...] = tuple(
            model.config.id2label[index] for index in range(model.config.num_labels)
        )
        self._model = model
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, model_dir: str | Path, *, device: str = "cpu") -> Classifier:
        """Loads the model folder that `miniml.training` wrote, after checking its digest.

        Nothing is fetched and no code of the folder is run: safetensors, tokenizer, config only.

        Raises:
            ModelFolderError: a file is missing, was changed, or cannot be loaded.
        """
        folder = Path(model_dir)
        manifest = verify(folder)
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelFolderError(
                f"model folder {folder} does not load as a text classifier: {error}"
            ) from error
        return cls(model.to(device).eval(), tokenizer, manifest)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Answers `texts`, in their order."""
        answers = []
        for row in self.predict_probabilities(texts).tolist():
            best = max(range(len(row)), key=row.__getitem__)
            answers.append(Prediction(self.labels[best], row[best], dict(zip(self.labels, row, strict=True))))
        return answers

    def predict_probabilities(
        self, texts: Sequence[str], on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """The classes' probabilities, shape [len(texts), len(labels)], each row summing to 1.

        A text longer than the model's maximal length is cut, as it was in training. `on_progress` is
        told after each batch how many texts are done.

        Raises:
            InputError: something other than a string was given.
        """
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"a text is {text!r}, of type {type(text).__name__}; give strings.")
        probabilities = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        if not texts:
            return probabilities
        token_ids: list[list[int]] = self._tokenizer(list(texts), truncation=True)["input_ids"]
        done = 0
        for batch in _batches_of_like_length([len(ids) for ids in token_ids], TOKENS_PER_BATCH):
            padded = self._tokenizer.pad({"input_ids": [token_ids[i] for i in batch]}, return_tensors="pt")
            with torch.inference_mode():
                logits = self._model(**padded.to(self._model.device)).logits
            probabilities[batch] = torch.softmax(logits.float(), dim=-1).cpu().numpy()
            done += len(batch)
            if on_progress:
                on_progress(done)
        return probabilities


def _batches_of_like_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yields indices, shortest texts first, so that a batch padded to its longest stays within `budget` tokens.

    A text that is over the budget by itself makes a batch of one.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
