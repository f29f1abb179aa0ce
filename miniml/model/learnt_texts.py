"""Records which texts a model has been trained on, as digests in `learnt_texts.safetensors` of the model folder.

A training may begin with a model that miniml trained before, on other splits of the same data. The training texts of
that model must not be in the test of the new one. So each folder lists its own texts and those of all its predecessors.
"""

from __future__ import annotations

import hashlib
import html
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import datasets
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from miniml.errors import InputError, ModelFolderError
from miniml.files.digests import sha256
from miniml.model import manifest
from miniml.model.manifest import MANIFEST_NAME
from miniml.progress import logger

LEARNT_NAME = "learnt_texts.safetensors"
# With 10,000 test texts and a million others, a collision occurs once in a billion tests.
DIGEST_BYTES = 8
ROWS_TOGETHER = 1000

Digests = npt.NDArray[np.uint64]
"""Sorted, distinct digests, shape [texts]."""

_TAG = re.compile(r"<[^<>]*>")
_NO_WORD = re.compile(r"[\W_]+")
_NO_WORD_OF_ASCII = bytes(range(128)).translate(None, (string.digits + string.ascii_letters).encode())


@dataclass(frozen=True)
class LearntTexts:
    """The texts that a model and its predecessors have been trained on."""

    learnt: Digests
    """The texts of the split "train", which the weights were fitted to."""
    watched: Digests
    """The texts of the split "validation", which chose the best weights and fitted the temperature."""
    learnt_before: Digests
    """The texts that the predecessors had learnt, without the texts above."""
    watched_before: Digests
    """The texts that the predecessors had watched, without the texts above."""

    @classmethod
    def nothing(cls) -> Self:
        """Returns the record of a model that has seen no text."""
        return cls(*[np.zeros(0, dtype=np.uint64)] * 4)

    @classmethod
    def read(cls, model_dir: Path) -> Self:
        """Reads the record of a model folder; an empty one where it has no such file.

        Raises:
            ModelFolderError: the file is no such record.
        """
        path = model_dir / LEARNT_NAME
        if not path.exists():
            return cls.nothing()
        try:
            found = cls(**load_file(path))
        except (SafetensorError, TypeError, OSError) as error:
            raise _unreadable(path, repr(error)) from error
        if any(each.dtype != np.uint64 or each.ndim != 1 for each in vars(found).values()):
            raise _unreadable(path, "it holds no lists of digests")
        return found

    @classmethod
    def of_pretrained(cls, folder: Path, model_id: str, fingerprint: str) -> Self:
        """Reads the record of the pretrained model; an empty one if miniml did not train it.

        Args:
            folder: The pretrained model's folder.
            model_id: The name of the model, for errors.
            fingerprint: The fingerprint of the dataset to train on.

        Raises:
            InputError: an early miniml trained it on another dataset, and did not record the texts.
            ModelFolderError: the record is not the one that was signed.
        """
        if not (folder / MANIFEST_NAME).exists():
            return cls.read(folder)
        signed = manifest.read(folder)
        expected = signed.files.get(LEARNT_NAME)
        if expected is None and signed.data.get("fingerprint") != fingerprint:
            raise InputError(
                f"model_id {model_id!r} is a model that miniml trained on another dataset "
                f"({str(signed.data.get('fingerprint'))[:12]}, not {fingerprint[:12]}), by a version that did not keep "
                f"which texts these were: they may be this dataset's test. Train that model again, or begin with the "
                f"one that it was trained from."
            )
        if expected is not None and not _has(folder / LEARNT_NAME, expected):
            raise ModelFolderError(
                f"model_id {model_id!r}: {folder / LEARNT_NAME} is not the file that was signed with this model, so "
                f"nothing tells which test rows it has learnt. Restore the folder, or train that model again."
            )
        return cls.read(folder)

    def of_predecessors(self) -> Self:
        """Returns the record with which this model's training began: what the predecessors have seen."""
        nothing = np.zeros(0, dtype=np.uint64)
        return type(self)(self.learnt_before, self.watched_before, nothing, nothing)

    def followed_by(self, train: datasets.Dataset, validation: datasets.Dataset) -> Self:
        """Returns the record of the model that a training on these splits makes of this one."""
        learnt, watched = digests_of(_texts(train)), digests_of(_texts(validation))
        own = np.union1d(learnt, watched)
        return type(self)(
            learnt,
            watched,
            np.setdiff1d(np.union1d(self.learnt, self.learnt_before), own),
            np.setdiff1d(np.union1d(self.watched, self.watched_before), own),
        )

    def write(self, model_dir: Path) -> None:
        """Writes the record into a model folder; the same texts give the same bytes."""
        save_file(vars(self), model_dir / LEARNT_NAME)

    def unlearnt(self, validation: datasets.Dataset, model_id: str) -> datasets.Dataset:
        """Returns the validation rows of a further training whose texts the weights have not been fitted to.

        Args:
            validation: The further training's split "validation".
            model_id: The name of this model, for messages.

        Raises:
            InputError: there are none.
        """
        rows = _rows_without(validation, np.union1d(self.learnt, self.learnt_before))
        if len(validation) and not len(rows):
            raise InputError(
                f"model_id {model_id!r} has been trained on all {len(validation):,} texts of validation, so nothing "
                f"would tell how well it does. Train on other data, or begin with the model that "
                f"it was trained from."
            )
        if len(rows) == len(validation):
            return validation
        gone = len(validation) - len(rows)
        logger.info(
            f"{gone:,} of {len(validation):,} validation rows are left out: {model_id} has learnt them before"
        )
        return validation.select(rows)

    def unseen(self, test: datasets.Dataset) -> npt.NDArray[np.int64]:
        """Returns the numbers of the test rows that the predecessors have not seen, shape [rows].

        The model's own training texts are not in its test: transform sees to that.

        Raises:
            InputError: there are none.
        """
        rows = _rows_without(test, np.union1d(self.learnt_before, self.watched_before))
        if len(test) and not len(rows):
            raise InputError(
                f"the model that the training began with has been trained on all {len(test):,} texts of the test: "
                f"nothing tells how this one does on others. Evaluate on new data, or begin with another model."
            )
        return rows


def digests_of(texts: Iterable[str]) -> Digests:
    """Returns the sorted, distinct digests of some texts."""
    return np.unique(_each(texts))


def _each(texts: Iterable[str]) -> Digests:
    found = b"".join(_digest(text) for text in texts)
    return np.frombuffer(found, dtype="<u8").astype(np.uint64)


def _digest(text: str) -> bytes:
    """Returns the digest of the text's words alone: data settings may change blanks, signs, markup and capitals."""
    return hashlib.blake2b(_words(text) or text.encode(), digest_size=DIGEST_BYTES).digest()


def _words(text: str) -> bytes:
    if "<" in text or "&" in text:
        text = html.unescape(_TAG.sub(" ", text))
    if text.isascii():  # Ten times as fast.
        return text.lower().encode().translate(None, _NO_WORD_OF_ASCII)
    return _NO_WORD.sub("", unicodedata.normalize("NFKC", text).casefold()).encode()


def _rows_without(dataset: datasets.Dataset, known: Digests) -> npt.NDArray[np.int64]:
    if not len(known):  # The usual case, in which no text has to be read.
        return np.arange(len(dataset))
    return np.flatnonzero(~np.isin(_each(_texts(dataset)), known))


def _texts(dataset: datasets.Dataset) -> Iterator[str]:
    for batch in dataset.select_columns("text").iter(ROWS_TOGETHER):
        yield from batch["text"]


def _has(path: Path, expected: str) -> bool:
    return path.is_file() and sha256(path) == expected


def _unreadable(path: Path, why: str) -> ModelFolderError:
    return ModelFolderError(
        f"{path} does not tell which texts the model has learnt ({why}). Restore the folder, or train again."
    )
