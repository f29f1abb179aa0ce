"""A trained model, ready to answer: evaluation and serving both use this one.

Because the report and the service call the same code, the model that was tested is the model that
is served, down to its tokenizer, its truncation and its label names.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from miniml.errors import InputError, ModelFolderError
from miniml.model import calibration
from miniml.model.engines import REFERENCE, Engine, Logits, TokenIds, TorchEngine
from miniml.model.heads import Answer, Head, read_head
from miniml.model.heads import Outputs as Probabilities
from miniml.model.manifest import Manifest, verify
from miniml.model.model_files import in_a_line, trouble_with, trouble_with_tokenizer

__all__ = [
    "Classifier",
    "Probabilities",
    "Span",
    "batches_of_like_length",
    "logits_of",
    "padded",
]

# Padded tokens in one forward pass. Large batches amortise the cost of a call, but past some
# thousands of tokens the activations fall out of the cache.
TOKENS_PER_BATCH = 4096

# Weights that are pickles, as torch writes them.
PICKLES = frozenset({".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth"})

Span = tuple[int, int]
"""Where something begins and ends in a text, in characters, the end not included."""


class Classifier:
    """Predicts classes, labels or a number of texts, as its head says."""

    def __init__(self, engine: Engine, tokenizer: Any, head: Head, manifest: Manifest) -> None:
        self.engine = engine
        self.head = head
        self.manifest = manifest
        self._tokenizer = tokenizer
        tokenizer("", truncation=True)  # a fast one keeps from this where to cut

    @classmethod
    def load(cls, model_dir: str | Path, *, device: str = "cpu") -> Classifier:
        """Loads the model folder that `miniml.training` wrote, after checking its digest.

        Nothing is fetched and no code of the folder is run: safetensors, tokenizer, config only. It runs
        on the reference engine, torch in float32.

        Raises:
            ModelFolderError: a file is missing, was changed, or cannot be loaded.
        """
        folder = Path(model_dir)
        manifest = verify(folder)
        _require_files(folder)
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
        engine = TorchEngine(REFERENCE, model.to(device).eval())
        return cls(engine, tokenizer, head, manifest)

    def on(self, engine: Engine) -> Classifier:
        """The same classifier on another engine."""
        return Classifier(engine, self._tokenizer, self.head, self.manifest)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names in the model's order; none of a regression."""
        return self.head.labels

    @property
    def temperature(self) -> float:
        """What the logits are divided by before they become probabilities (see `miniml.model.calibration`)."""
        return self.head.temperature

    @property
    def max_length(self) -> int:
        """The number of tokens that a text is cut to, as it was in training."""
        return int(self._tokenizer.model_max_length)

    @property
    def reads_the_end(self) -> bool:
        """Whether a text that is longer loses its beginning."""
        return bool(self._tokenizer.truncation_side == "left")

    def predict(self, texts: Sequence[str]) -> list[Any]:
        """Answers `texts`, in their order, each with an answer as the head of the model's task gives it."""
        return [self.prediction(row) for row in self.predict_probabilities(texts)]

    def prediction(self, outputs: Probabilities) -> Answer:
        """The answer that one row of `predict_probabilities`, shape [width], stands for."""
        return self.head.answer(outputs)

    def predict_probabilities(
        self, texts: Sequence[str], on_progress: Callable[[int], None] | None = None
    ) -> Probabilities:
        """The labels' probabilities, shape [len(texts), len(labels)]; of a regression the numbers, [len(texts), 1].

        A text longer than the model's maximal length is cut, as it was in training. `on_progress` is
        told after each batch how many texts are done.

        Raises:
            InputError: something other than a list of strings was given.
        """
        # Of a string each character would be answered, and of what is read only once nothing.
        if isinstance(texts, str | bytes) or not hasattr(texts, "__len__"):
            raise InputError(f"texts is of type {type(texts).__name__}; give a list of strings.")
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"a text is {text!r}, of type {type(text).__name__}; give strings.")
        return self.probabilities(self.logits(self.encode(texts), on_progress))

    def logits(
        self, token_ids: Sequence[TokenIds], on_progress: Callable[[int], None] | None = None
    ) -> Logits:
        """What the engine says of encoded texts, shape [len(token_ids), width], before the temperature."""
        return logits_of(self.engine, self._tokenizer, self.head.width, token_ids, on_progress)

    def probabilities(self, logits: Logits) -> Probabilities:
        """What `logits`, shape [..., width], come to: probabilities at the model's temperature, or numbers."""
        return self.head.outputs(logits)

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Each text's tokens, shape [tokens], cut to the model's maximal length."""
        return encode(self._tokenizer, texts)

    def lengths(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """How many tokens each text has as a whole, also where the model reads fewer."""
        if not texts:
            return np.array([], dtype=np.int64)
        # A copy: a fast one keeps where to cut, and would cut nothing that `encode` gives it afterwards.
        tokenizer = copy.deepcopy(self._tokenizer)
        whole = tokenizer(list(texts), truncation=False, return_attention_mask=False, verbose=False)
        return np.array([len(ids) for ids in whole["input_ids"]], dtype=np.int64)

    def words(self, text: str) -> list[Span]:
        """The words of `text` that the model reads: all, or those that its maximal length leaves.

        Where one word ends is the tokenizer's to say, but signs that stand by letters go with them, so that
        "don't!" is one word, and each of the characters of a script without blanks is.
        """
        if not self._tokenizer.is_fast:  # it does not tell which characters a token came from
            return [found.span() for found in re.finditer(r"\S+", text)]
        encoded = self._tokenizer(text, truncation=True, return_offsets_mapping=True)
        words: list[Span] = []
        of_last: int | None = None
        for number, (begin, end) in zip(encoded.word_ids(), encoded["offset_mapping"], strict=True):
            while begin < end and text[begin].isspace():
                # some tokenizers count the blank before a word as its own
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
        """`predict_probabilities` of encoded texts, shape [len(batch), width], in one pass of the engine."""
        return self.head.outputs(self.engine(*padded(self._tokenizer, batch)))

    def scaled(self, batch: Sequence[TokenIds]) -> Logits:
        """Their logits over the temperature, of which `run` makes what it gives."""
        return self.head.scaled(self.engine(*padded(self._tokenizer, batch)))

    def made_up(self, *lengths: int) -> list[TokenIds]:
        """Random words; see `made_up`."""
        return made_up(self._tokenizer, *lengths)


def made_up(tokenizer: Any, *lengths: int) -> list[TokenIds]:
    """Random words as `encode` gives them, of `lengths` tokens each, as far as the maximal length goes."""
    draw = random.Random(0)  # noqa: S311  # the same words each time
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
        # What transformers calls too, without what it would make of it: offsets, and copies into lists.
        found = [one.ids for one in tokenizer.backend_tokenizer.encode_batch_fast(list(texts))]
    else:
        found = tokenizer(list(texts), truncation=True, return_attention_mask=False)["input_ids"]
    return [np.array(ids or [_nothing(tokenizer)], dtype=np.int64) for ids in found]


def _nothing(tokenizer: Any) -> int:
    """The token that stands for a text without any: where texts end or begin, or else what fills up a batch."""
    special = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
    return next(int(number) for number in special if number is not None)


def logits_of(
    engine: Engine,
    tokenizer: Any,
    labels: int,
    token_ids: Sequence[TokenIds],
    on_progress: Callable[[int], None] | None = None,
) -> Logits:
    """What `engine` says of encoded texts, shape [len(token_ids), labels], in batches of like length."""
    logits = np.empty((len(token_ids), labels), dtype=np.float32)
    done = 0
    for batch in batches_of_like_length([len(ids) for ids in token_ids], TOKENS_PER_BATCH):
        logits[batch] = engine(*padded(tokenizer, [token_ids[index] for index in batch]))
        done += len(batch)
        if on_progress:
            on_progress(done)
    return logits


def padded(tokenizer: Any, batch: Sequence[TokenIds]) -> tuple[TokenIds, TokenIds]:
    """Token ids and attention mask, each of shape [len(batch), longest]."""
    shape = (len(batch), max(len(ids) for ids in batch))
    token_ids = np.full(shape, tokenizer.pad_token_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    for row, ids in enumerate(batch):
        taken = slice(-len(ids), None) if tokenizer.padding_side == "left" else slice(len(ids))
        token_ids[row, taken], attention_mask[row, taken] = ids, 1
    return token_ids, attention_mask


def _require_files(folder: Path) -> None:
    """Names what is wrong with a file, where transformers names a class, or makes up what is missing."""
    if pickles := sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES):
        raise _refused(folder, f"{pickles[0]} is a pickle, which can run code. Keep safetensors only")
    for name, pattern in (("config.json", "config.json"), ("model.safetensors", "*.safetensors")):
        if not any(folder.glob(pattern)):
            raise _refused(folder, f"{name} is missing")
    if trouble := trouble_with(folder):
        raise _refused(folder, trouble.what)


def _refused(folder: Path, reason: str) -> ModelFolderError:
    return ModelFolderError(
        f"model folder {folder} is refused: {reason}. Give one that the train stage wrote."
    )


def _belong_together(text: str, end: int, begin: int) -> bool:
    """Whether no blank parts what ends at `end` from what begins at `begin`, and not both are letters."""
    return begin == end and not (text[end - 1].isalnum() and text[begin].isalnum())


def batches_of_like_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
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
