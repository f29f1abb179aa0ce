"""Writes and reads `predictions.parquet`: every test row with the model's answer, for the gate and for analysis.

Any Parquet reader can read it; `Predictions.read` also interprets it:

    >>> from miniml.evaluation.predictions import Predictions
    >>> found = Predictions.read(Path("local_outputs/latest/predictions.parquet"))
    >>> found.labels, found.correct.mean()

Columns:

- `row`: its number in the split test
- `text`
- `label` and `predicted`: names; lists of names where a text may have several; numbers in a regression
- `probabilities` (none in a regression) and `logits` (before the temperature): lists in the order of the labels
- `tokens`: the number of tokens of the whole text
- `group`, where the test has groups: the number of the row's group
- `column: <name>`: each further column of the test

The schema's metadata holds `task`, `labels` (JSON), `model_digest`, `data_fingerprint`, `temperature` and, where a text
may have several labels, `threshold`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as parquet

from miniml.errors import InputError
from miniml.evaluation.bootstrap import Groups, Interval, fraction_with_interval
from miniml.evaluation.comparison import compare
from miniml.evaluation.non_inferiority import compare_with_margin
from miniml.evaluation.result import Comparison, NonInferiority
from miniml.task import Prediction, Task
from miniml.task_registry import DEFAULT, find_task

PREDICTIONS_NAME = "predictions.parquet"
COLUMN = "column: "
"""The prefix of a further column, which keeps its name apart from ours."""

_SHARES = pa.list_(pa.float32())


@dataclass(frozen=True)
class Predictions(ABC):
    """One model's answers to every test row; each task has a subclass."""

    labels: tuple[str, ...]
    texts: list[str]
    references: npt.NDArray[Any]
    """The true label of each row, in the form of the task."""
    probabilities: npt.NDArray[np.float32]
    """The outputs of the model's head, shape [rows, width]: probabilities, or in a regression the numbers."""
    logits: npt.NDArray[np.float32]
    """The logits before the temperature, shape [rows, width]."""
    tokens: npt.NDArray[np.int64]
    """The number of tokens of each whole text, shape [rows]; the model may read fewer."""
    model_digest: str
    data_fingerprint: str
    temperature: float = 1.0
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """The further columns of the test, by name."""
    groups: Groups = None
    """The number of each row's group, shape [rows], where rows belong together."""
    rows: npt.NDArray[np.int64] | None = None
    """The number of each row in the split test; None where it is whole."""

    task: Task = DEFAULT

    column_type: ClassVar[Any]
    """The type of the columns `label` and `predicted`."""

    @property
    @abstractmethod
    def predicted(self) -> npt.NDArray[Any]:
        """The model's answer to each row, in the form of `references`."""

    @property
    @abstractmethod
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether each row is answered correctly, shape [rows].

        Raises:
            InputError: the answers are numbers, which have errors instead.
        """

    def primary_metric(self, inside: npt.NDArray[np.bool_]) -> Interval:
        """Returns the task's primary metric on some of the rows, with its interval: Wilson's for a fraction.

        Args:
            inside: Whether each row counts, shape [rows].
        """
        return fraction_with_interval(self.correct[inside], self.groups_of(inside))

    def compared_with(self, other: Self, digest: str) -> Comparison:
        """Compares these answers, as the challenger's, with another model's to the same rows.

        Args:
            other: The other model's answers.
            digest: The other model's digest; "" for a baseline.
        """
        return self._compared_by_correctness(other.correct, digest)

    def compared_with_answers(self, answers: Sequence[Prediction], digest: str) -> Comparison:
        """Compares these answers with another model's, whose labels may have another order.

        Args:
            answers: The other model's answer to each row.
            digest: The other model's digest.
        """
        true = self.names(self.references)
        correct = [set(one.given) == _as_set(names) for one, names in zip(answers, true, strict=True)]
        return self._compared_by_correctness(np.array(correct), digest)

    def compared_with_margin(self, full: Self, max_loss: float) -> NonInferiority:
        """Tests whether these answers, a smaller model's, are worse than the full model's by less than a margin.

        Args:
            full: The full model's answers to the same rows.
            max_loss: The margin (see `NonInferiority`).
        """
        test = compare_with_margin(self.correct, full.correct, full.model_digest, max_loss, self.groups)
        return replace(test, comparison=replace(test.comparison, measure=self.task.primary_metric))

    def _compared_by_correctness(self, correct: npt.NDArray[np.bool_], digest: str) -> Comparison:
        return replace(compare(self.correct, correct, digest, self.groups), measure=self.task.primary_metric)

    def groups_of(self, inside: npt.NDArray[np.bool_]) -> Groups:
        """Returns the groups of the rows that are `inside`, a mask of shape [rows]; None where there are no groups."""
        return None if self.groups is None else self.groups[inside]

    @property
    def row_numbers(self) -> npt.NDArray[np.int64]:
        """The number of each row in the split test, shape [rows]."""
        return np.arange(len(self.texts)) if self.rows is None else self.rows

    @abstractmethod
    def parts(self) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """Yields the name of each label that rows have, or of each range of numbers, and a mask of its rows."""

    @abstractmethod
    def names(self, answers: npt.NDArray[Any]) -> list[Any]:
        """Returns references or answers as a person would write them: names, lists of names, or numbers."""

    def save(self, path: Path) -> None:
        """Writes the file; the same predictions give the same bytes."""
        table = pa.table(
            {
                "row": pa.array(self.row_numbers, pa.int64()),
                "text": pa.array(self.texts, pa.string()),
                "label": pa.array(self.names(self.references), self.column_type),
                "predicted": pa.array(self.names(self.predicted), self.column_type),
                **{name: pa.array(list(values), _SHARES) for name, values in self.matrices().items()},
                "tokens": pa.array(self.tokens, pa.int64()),
                **({} if self.groups is None else {"group": pa.array(self.groups, pa.int64())}),
                **{COLUMN + name: pa.array(values) for name, values in self.columns.items()},
            }
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table.replace_schema_metadata(self.facts()), path)

    def matrices(self) -> dict[str, npt.NDArray[np.float32]]:
        """Returns the file's columns that hold a list of numbers for each row."""
        return {"probabilities": self.probabilities, "logits": self.logits}

    def facts(self) -> dict[str, str]:
        """Returns the metadata of the file's schema."""
        return {
            "task": str(self.task),
            "labels": json.dumps(self.labels),
            "model_digest": self.model_digest,
            "data_fingerprint": self.data_fingerprint,
            "temperature": repr(self.temperature),
        }

    @staticmethod
    def read(path: Path) -> Predictions:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is missing, or `save` did not write it.
        """
        try:
            table = parquet.read_table(path)
            facts = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
            task = find_task(facts["task"])
            kind: type[Predictions] = task.part("predictions")
            return kind.of(table, facts, task=task)
        except (pa.ArrowInvalid, KeyError, ValueError, FileNotFoundError) as error:
            raise InputError(
                f"{path} holds no predictions that miniml's evaluate stage wrote ({error!r}). "
                f"Give {PREDICTIONS_NAME} of a run."
            ) from error

    @classmethod
    def of(cls, table: pa.Table, facts: dict[str, str], **more: Any) -> Self:
        """Builds the predictions from a file's content.

        Args:
            table: The file's columns.
            facts: The metadata of its schema.
            **more: Fields that only some tasks have.
        """
        labels: list[str] = json.loads(facts["labels"])
        rows = table["row"].to_numpy()
        return cls(
            labels=tuple(labels),
            texts=table["text"].to_pylist(),
            references=cls.references_of(table["label"].to_pylist(), labels),
            logits=_matrix(table["logits"], len(labels) or 1),
            probabilities=cls.outputs_of(table, len(labels)),
            tokens=table["tokens"].to_numpy(),
            model_digest=facts["model_digest"],
            data_fingerprint=facts["data_fingerprint"],
            temperature=float(facts["temperature"]),
            columns={
                name.removeprefix(COLUMN): table[name].to_pylist()
                for name in table.column_names
                if name.startswith(COLUMN)
            },
            groups=table["group"].to_numpy() if "group" in table.column_names else None,
            rows=None if np.array_equal(rows, np.arange(len(rows))) else rows,
            **more,
        )

    @staticmethod
    @abstractmethod
    def references_of(names: list[Any], labels: list[str]) -> npt.NDArray[Any]:
        """Returns the references with these names, the inverse of `names`."""

    @staticmethod
    def outputs_of(table: pa.Table, width: int) -> npt.NDArray[np.float32]:
        """Returns the file's column `probabilities`, shape [rows, width]."""
        return _matrix(table["probabilities"], width)


def _as_set(names: str | list[str]) -> set[str]:
    return {names} if isinstance(names, str) else set(names)


def _matrix(column: Any, width: int) -> npt.NDArray[np.float32]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    found: npt.NDArray[np.float32] = flat.reshape(-1, width)
    return found
