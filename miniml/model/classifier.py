"""Loads a trained model and predicts with it, in evaluation and in serving alike.

Because both use the same code, the model that is served is the one that was tested, down to its tokenizer, its
truncation and its label names.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from miniml.errors import InputError, ModelFolderError
from miniml.escaping import shown
from miniml.model import calibration
from miniml.model.engines import (
    REFERENCE,
    Engine,
    Logits,
    Reference,
    ServedModel,
    TokenIds,
    TorchEngine,
    pinned,
)
from miniml.model.heads import Head, PredictionT_co, read_head
from miniml.model.heads import Outputs as Probabilities
from miniml.model.manifest import Manifest, verify
from miniml.model.model_files import in_a_line, trouble_with, trouble_with_tokenizer
from miniml.model.plain_tokenizer import PlainTokenizer
from miniml.task import Prediction

__all__ = [
    "Classifier",
    "Probabilities",
    "Span",
    "batches_of_like_length",
    "logits_of",
    "padded",
]

# Padded tokens in one forward pass. Large batches amortise the cost of a call, but beyond some thousands of tokens the
# activations no longer fit into the cache.
TOKENS_PER_BATCH = 4096

# Weights that are pickles, as torch writes them.
PICKLES = frozenset({".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth"})

PredictionT = TypeVar("PredictionT", bound=Prediction)

Span = tuple[int, int]
"""The begin and end of a part of a text, in characters; the end is exclusive."""


class Classifier(Generic[PredictionT_co]):
    """Predicts the class, the labels or the number of texts, depending on the model's task.

    `Classifier[SingleLabelPrediction]` is one whose predictions are of that class, `Classifier` one of any task.
    """

    def __init__(
        self, engine: Engine, tokenizer: Any, head: Head[PredictionT_co], manifest: Manifest
    ) -> None:
        """
        Args:
            engine: Computes the logits.
            tokenizer: The tokenizer of transformers, which truncates as in training.
            head: Turns logits into predictions.
            manifest: The model folder's.
        """
        self.engine = engine
        self.head = head
        self.manifest = manifest
        self._tokenizer = tokenizer
        if not isinstance(tokenizer, PlainTokenizer):
            tokenizer("", truncation=True)  # A fast tokenizer keeps the truncation of this call.

    @overload
    @classmethod
    def load(cls, model_dir: str | Path, *, device: str = ...) -> Classifier: ...
    @overload
    @classmethod
    def load(
        cls, model_dir: str | Path, prediction_type: type[PredictionT], *, device: str = ...
    ) -> Classifier[PredictionT]: ...
    @classmethod
    def load(
        cls, model_dir: str | Path, prediction_type: type[Any] | None = None, *, device: str = "cpu"
    ) -> Classifier[Any]:
        """Loads the model folder that training wrote, after checking its digest.

        Nothing is downloaded, and no code of the folder is run: only safetensors, tokenizer and config are read.

        Args:
            model_dir: The model folder.
            prediction_type: The class that the model's predictions must have, such as
                `miniml.tasks.SingleLabelPrediction`; type checkers and editors then know their fields. None takes a
                model of any task.
            device: Where torch runs the model: "cpu", "cuda" or the like.

        Returns:
            The classifier on the reference engine: torch in float32, or the engine that the folder is bound to.

        Raises:
            InputError: the model's predictions are of another class, its task is not registered, or this machine has
                not the engine that it is bound to.
            ModelFolderError: a file is missing, was changed, or cannot be loaded.
        """
        # They take seconds to import, which a server spares that begins by `miniml.model.quick_start`.
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        folder = Path(model_dir)
        manifest = verified(folder)
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model, found = AutoModelForSequenceClassification.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # Those are named below.
                dtype=torch.float32,
                output_loading_info=True,
            )
        except Exception as error:  # libraries raise anything where a file is not what they expect
            raise _refused(folder, f"it does not load as a text classifier ({in_a_line(error)})") from error
        if trouble := trouble_with_tokenizer(tokenizer, folder):
            raise _refused(folder, trouble.what)
        mismatched = {name for name, *_ in found["mismatched_keys"]}
        if astray := sorted({*found["missing_keys"], *found["unexpected_keys"], *mismatched}):
            raise _refused(folder, f"its weights are not those of its config.json ({astray[0]})")
        head = read_head(model.config, calibration.read(folder))
        if prediction_type is not None:
            _require_predictions(folder, head, prediction_type)
        engine: Reference = TorchEngine(REFERENCE, model.to(device).eval())
        if manifest.engine:
            engine = pinned(manifest.engine, ServedModel(engine, folder, torch.get_num_threads()))
        return cls(engine, tokenizer, head, manifest)

    def on(self, engine: Engine) -> Classifier[PredictionT_co]:
        """Returns the same classifier on another engine."""
        return Classifier(engine, self._tokenizer, self.head, self.manifest)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels' names in the model's order; empty in a regression."""
        return self.head.labels

    @property
    def temperature(self) -> float:
        """The divisor of the logits before they become probabilities (see `miniml.model.calibration`)."""
        return self.head.temperature

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, which truncates as in training."""
        return self._tokenizer

    @property
    def max_length(self) -> int:
        """The number of tokens that a text is truncated to, as in training."""
        return int(self._tokenizer.model_max_length)

    @property
    def reads_the_end(self) -> bool:
        """Whether truncation cuts off the beginning of a text, not its end."""
        return bool(self._tokenizer.truncation_side == "left")

    def predict(self, texts: Sequence[str]) -> list[PredictionT_co]:
        """Predicts the class, the labels or the number of each text.

        Returns:
            A prediction for each text, in their order, of the task's class (see `miniml.tasks`):
            `SingleLabelPrediction`, `MultiLabelPrediction`, `RegressionPrediction`, or that of a task of your own.

        Raises:
            InputError: something other than a list of strings was given, or a text has half of a character.
        """
        return [self.prediction(row) for row in self.predict_probabilities(texts)]

    def prediction(self, outputs: Probabilities) -> PredictionT_co:
        """Returns the prediction for one row of `predict_probabilities`, shape [width]."""
        return self.head.prediction(outputs)

    def predict_probabilities(
        self, texts: Sequence[str], on_progress: Callable[[int], None] | None = None
    ) -> Probabilities:
        """Predicts the labels' probabilities, or in a regression the numbers.

        A text longer than the model's maximal length is truncated, as in training.

        Args:
            texts: The texts.
            on_progress: Called after each batch with the number of texts that are done.

        Returns:
            Probabilities, shape [len(texts), len(labels)]; in a regression numbers, shape [len(texts), 1].

        Raises:
            InputError: something other than a list of strings was given, or a text has half of a character.
        """
        return self.probabilities(self.logits(self.encode(_listed(texts)), on_progress))

    def logits(
        self, token_ids: Sequence[TokenIds], on_progress: Callable[[int], None] | None = None
    ) -> Logits:
        """Computes the logits of encoded texts, before the temperature.

        Args:
            token_ids: The texts, as `encode` returns them.
            on_progress: Called after each batch with the number of texts that are done.

        Returns:
            Shape [len(token_ids), width].
        """
        return logits_of(self.engine, self._tokenizer, self.head.width, token_ids, on_progress)

    def probabilities(self, logits: Logits) -> Probabilities:
        """Converts `logits`, shape [..., width], to probabilities at the model's temperature, or to numbers."""
        return self.head.outputs(logits)

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Tokenizes texts, each to shape [tokens], truncated to the model's maximal length."""
        return encode(self._tokenizer, texts)

    def lengths(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Counts the tokens of each whole text, before truncation: shape [len(texts)]."""
        if not len(texts):
            return np.array([], dtype=np.int64)
        if self._tokenizer.is_fast:
            # A copy, because `encode` relies on the truncation.
            backend = copy.deepcopy(self._tokenizer.backend_tokenizer)
            backend.no_truncation()
            return np.array([len(one.ids) for one in backend.encode_batch_fast(list(texts))], dtype=np.int64)
        tokenizer = copy.deepcopy(self._tokenizer)
        whole = tokenizer(list(texts), truncation=False, return_attention_mask=False, verbose=False)
        return np.array([len(ids) for ids in whole["input_ids"]], dtype=np.int64)

    def words(self, text: str) -> list[Span]:
        """Returns the words of `text` that the model reads: all, or those that truncation leaves.

        The tokenizer splits words. Punctuation that touches letters belongs to their word, so "don't!" is one word; in
        a script without blanks each character is a word.
        """
        if not self._tokenizer.is_fast:  # It does not map tokens to characters.
            return [found.span() for found in re.finditer(r"\S+", text)]
        encoded = self._tokenizer.backend_tokenizer.encode(text)
        words: list[Span] = []
        of_last: int | None = None
        for number, (begin, end) in zip(encoded.word_ids, encoded.offsets, strict=True):
            while begin < end and text[begin].isspace():
                # Some tokenizers count the blank before a word as its part.
                begin += 1
            if number is None or begin == end:
                continue
            if words and (number == of_last or _belong_together(text, words[-1][1], begin)):
                words[-1] = words[-1][0], end
            else:
                words.append((begin, end))
            of_last = number
        return words

    def run(self, batch: Sequence[TokenIds]) -> Probabilities:
        """Predicts one batch of encoded texts in one pass of the engine: shape [len(batch), width]."""
        return self.head.outputs(self.engine(*padded(self._tokenizer, batch)))

    def scaled(self, batch: Sequence[TokenIds]) -> Logits:
        """Computes the batch's logits divided by the temperature, shape [len(batch), width]."""
        return self.head.scaled(self.engine(*padded(self._tokenizer, batch)))

    def made_up(self, *lengths: int) -> list[TokenIds]:
        """Returns texts of random tokens; see the function `made_up`."""
        return made_up(self._tokenizer, *lengths)


def made_up(tokenizer: Any, *lengths: int) -> list[TokenIds]:
    """Returns texts of random tokens, as `encode` gives them, the same on every call.

    Args:
        tokenizer: Its tokens are drawn.
        *lengths: The number of tokens of each text, limited by the maximal length.
    """
    draw = random.Random(0)  # noqa: S311  # Not for cryptography.
    every = range(len(tokenizer))
    special = set(tokenizer.all_special_ids)
    ordinary = [number for number in every if number not in special] or every
    (empty,) = encode(tokenizer, [""])
    begin, end = empty[:-1], empty[-1:]  # what stands around a text
    limits = [min(length, int(tokenizer.model_max_length)) - len(empty) for length in lengths]
    words = [np.array(draw.choices(ordinary, k=max(0, limit)), dtype=np.int64) for limit in limits]
    return [np.concatenate([begin, body, end]) for body in words]


def encode(tokenizer: Any, texts: Sequence[str]) -> list[TokenIds]:
    """Each text's tokens, shape [tokens], cut to the maximal length of `tokenizer`, which has truncated before.

    There is one at least: a text in which the tokenizer finds nothing is read as one special token.
    """
    if not texts:
        return []
    if tokenizer.is_fast:
        # As transformers calls it, but without offsets and without copies into lists.
        found = [one.ids for one in tokenizer.backend_tokenizer.encode_batch_fast(list(texts))]
    else:
        found = tokenizer(list(texts), truncation=True, return_attention_mask=False)["input_ids"]
    return [np.array(ids or [_nothing(tokenizer)], dtype=np.int64) for ids in found]


def _nothing(tokenizer: Any) -> int:
    """Returns the token that stands for an empty text: an end, begin, unknown or padding token."""
    special = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
    return next(int(number) for number in special if number is not None)


def logits_of(
    engine: Engine,
    tokenizer: Any,
    labels: int,
    token_ids: Sequence[TokenIds],
    on_progress: Callable[[int], None] | None = None,
) -> Logits:
    """Computes the logits of encoded texts, in batches of similar length.

    Args:
        engine: Runs the model.
        tokenizer: Pads the batches.
        labels: The width of the logits.
        token_ids: The texts, each of shape [tokens].
        on_progress: Called after each batch with the number of texts that are done.

    Returns:
        Shape [len(token_ids), labels].
    """
    logits = np.empty((len(token_ids), labels), dtype=np.float32)
    done = 0
    for batch in batches_of_like_length([len(ids) for ids in token_ids], TOKENS_PER_BATCH):
        logits[batch] = engine(*padded(tokenizer, [token_ids[index] for index in batch]))
        done += len(batch)
        if on_progress:
            on_progress(done)
    return logits


def padded(tokenizer: Any, batch: Sequence[TokenIds]) -> tuple[TokenIds, TokenIds]:
    """Pads a batch to token ids and attention mask, each of shape [len(batch), longest]."""
    shape = (len(batch), max(len(ids) for ids in batch))
    token_ids = np.full(shape, tokenizer.pad_token_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    for row, ids in enumerate(batch):
        taken = slice(-len(ids), None) if tokenizer.padding_side == "left" else slice(len(ids))
        token_ids[row, taken], attention_mask[row, taken] = ids, 1
    return token_ids, attention_mask


def verified(folder: Path) -> Manifest:
    """Checks a model folder's digest, and its files before a library reads them, whose errors would not name the file.

    Returns:
        The folder's manifest.

    Raises:
        ModelFolderError: a file is missing, was changed, or cannot be loaded.
    """
    manifest = verify(folder)
    if pickles := sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES):
        raise _refused(folder, f"{pickles[0]} is a pickle, which can run code. Keep safetensors only")
    for name, pattern in (("config.json", "config.json"), ("model.safetensors", "*.safetensors")):
        if not any(folder.glob(pattern)):
            raise _refused(folder, f"{name} is missing")
    if trouble := trouble_with(folder):
        raise _refused(folder, trouble.what)
    return manifest


def _refused(folder: Path, reason: str) -> ModelFolderError:
    return ModelFolderError(
        f"model folder {folder} is refused: {reason}. Give one that the train stage wrote."
    )


def _listed(texts: Iterable[str]) -> list[str]:
    """Returns the texts of a list, an array or a column of a table, after a check that the tokenizer takes them.

    Raises:
        InputError: it is something else.
    """
    # A string would be answered letter by letter, a dictionary or a table by its names, a set in any order, and what
    # can be read only once may have been read.
    unsuitable = isinstance(texts, str | bytes | Mapping | Set) or hasattr(texts, "columns")
    if unsuitable or not hasattr(texts, "__len__") or getattr(texts, "ndim", 1) != 1:
        raise InputError(f"texts is of type {type(texts).__name__}; give a list of strings.")
    every = list(texts)
    for number, text in enumerate(every):
        if not isinstance(text, str):
            raise InputError(
                f"a text is {shown(text)}, of type {type(text).__name__} (number {number}, from 0); give strings."
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"text {number} has half of a character ({text[error.start]!r} at {error.start}), which no encoding "
                f'has. Decode it anew, or replace that: text.encode("utf-8", "replace").decode().'
            ) from error
    return every


def _require_predictions(folder: Path, head: Head, wanted: type[Prediction]) -> None:
    """Requires that the model's predictions are of the class `wanted`.

    Raises:
        InputError: they are of another class.
    """
    found = head.prediction_type.__name__
    if not issubclass(head.prediction_type, wanted):
        raise InputError(
            f"model folder {folder} does {head.task}: it predicts {found}, not {wanted.__name__}. Ask for {found}, or "
            f"name another folder."
        )


def _belong_together(text: str, end: int, begin: int) -> bool:
    """Whether nothing separates what ends at `end` from what begins at `begin`, and not both are letters."""
    return begin == end and not (text[end - 1].isalnum() and text[begin].isalnum())


def batches_of_like_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yields batches of texts of similar length, the shortest first.

    Args:
        lengths: The number of tokens of each text.
        budget: The number of tokens of a padded batch, at most; a longer text makes a batch of its own.

    Yields:
        The indices of a batch's texts.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
