"""`predictions.parquet`: every test row with the model's answer, for the next gate and for anyone's own analysis.

Any reader of Parquet takes it; `Predictions.read` also knows what the numbers are of:

    >>> from miniml.evaluation.predictions import Predictions
    >>> told = Predictions.read(Path("local_outputs/latest/predictions.parquet"))
    >>> told.labels, told.right.mean()

Columns: `row` (its number in the split test), `text`, `label`, `predicted` (names; lists of them where a text may have
several; numbers in a regression), `probabilities` and `logits` (a list each, in the order of the labels; the logits
are those before the temperature; in a regression there are no probabilities), `tokens` (of the whole text), and the
test's further columns under `column: <name>`; and `group`, where the test has groups: a number that rows share which
belong together. The schema's metadata holds `task`, `labels` (JSON), `model_digest`,
`data_fingerprint`, `temperature` and, where a text may have several labels, `threshold`.
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
from miniml.evaluation.bootstrap import Groups, Interval, share_of
from miniml.evaluation.comparison import compare
from miniml.evaluation.result import Comparison
from miniml.model.heads import Answer
from miniml.task import Task
from miniml.task_registry import DEFAULT, find_task

PREDICTIONS_NAME = "predictions.parquet"
COLUMN = "column: "
"""Before the name of a further column, which may be called as one of ours."""

_SHARES = pa.list_(pa.float32())


@dataclass(frozen=True)
class Predictions(ABC):
    """What one model said of every test row; each task has a subclass."""

    labels: tuple[str, ...]
    texts: list[str]
    references: npt.NDArray[Any]
    """The truth of each row, in the form of the task."""
    probabilities: npt.NDArray[np.float32]
    """Shape [rows, width], as the model would be served: what its head calls outputs."""
    logits: npt.NDArray[np.float32]
    """Shape [rows, width], before the temperature."""
    tokens: npt.NDArray[np.int64]
    """How many each text has as a whole; the model may read fewer."""
    model_digest: str
    data_fingerprint: str
    temperature: float = 1.0
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """The further columns of the test, by name."""
    groups: Groups = None
    """The group of each row, by any number, where rows belong together; they tell less than as many strangers would."""
    rows: npt.NDArray[np.int64] | None = None
    """The number of each row in the split test; None where it is whole."""

    task: Task = DEFAULT

    column_type: ClassVar[Any]
    """The type of the columns `label` and `predicted`."""

    @property
    @abstractmethod
    def predicted(self) -> npt.NDArray[Any]:
        """The answer to each row, in the form of `references`."""

    @property
    @abstractmethod
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each row was answered rightly.

        Raises:
            InputError: the answers are numbers, of which none is right.
        """

    def primary_metric(self, inside: npt.NDArray[np.bool_]) -> Interval:
        """Gives the task's primary metric on some of the rows, and its interval: Wilson's, of a share."""
        return share_of(self.right[inside], self.groups_of(inside))

    def compared_with(self, other: Self, digest: str) -> Comparison:
        """Compares the answers with those of another model, which has this digest, to the same rows."""
        return self._by_rightness(other.right, digest)

    def compared_with_answers(self, answers: Sequence[Answer], digest: str) -> Comparison:
        """Compares the same with what a model's head has answered, whose labels may stand in another order."""
        true = self.names(self.references)
        right = [set(one.given) == _as_set(names) for one, names in zip(answers, true, strict=True)]
        return self._by_rightness(np.array(right), digest)

    def _by_rightness(self, right: npt.NDArray[np.bool_], digest: str) -> Comparison:
        return replace(compare(self.right, right, digest, self.groups), measure=self.task.primary_metric)

    def groups_of(self, inside: npt.NDArray[np.bool_]) -> Groups:
        """Gives the groups of some of the rows."""
        return None if self.groups is None else self.groups[inside]

    @property
    def row_numbers(self) -> npt.NDArray[np.int64]:
        """The number of each row in the split test."""
        return np.arange(len(self.texts)) if self.rows is None else self.rows

    @abstractmethod
    def parts(self) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """Gives the rows of each label that there are rows of, or of each range of numbers, and its name."""

    @abstractmethod
    def names(self, answers: npt.NDArray[Any]) -> list[Any]:
        """Gives references or answers as a person would write them."""

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
        """Gives the columns that have a list of numbers for each row."""
        return {"probabilities": self.probabilities, "logits": self.logits}

    def facts(self) -> dict[str, str]:
        """Gives what the schema's metadata holds."""
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
            InputError: the file is another one.
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
        """Gives the predictions that a file holds; `more` are fields that only some tasks have."""
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
        """Gives the references whose names these are."""

    @staticmethod
    def outputs_of(table: pa.Table, width: int) -> npt.NDArray[np.float32]:
        """Gives `probabilities` as the file has them."""
        return _matrix(table["probabilities"], width)


def _as_set(names: str | list[str]) -> set[str]:
    return {names} if isinstance(names, str) else set(names)


def _matrix(column: Any, width: int) -> npt.NDArray[np.float32]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    found: npt.NDArray[np.float32] = flat.reshape(-1, width)
    return found
