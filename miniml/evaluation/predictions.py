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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as parquet

from miniml.errors import InputError
from miniml.evaluation.bootstrap import Groups, Interval, mean_with_interval, share_of
from miniml.model.heads import THRESHOLD, several
from miniml.tasks.task import Task

PREDICTIONS_NAME = "predictions.parquet"
COLUMN = "column: "
"""Before the name of a further column, which may be called as one of ours."""
NO_LABEL = "(no label)"
"""In place of a name, for the texts that have none."""

_SHARES = pa.list_(pa.float32())


@dataclass(frozen=True)
class Predictions:
    """What one model said of every test row; of its subclasses, one for each task, this is that of one class a text."""

    labels: tuple[str, ...]
    texts: list[str]
    references: npt.NDArray[Any]
    """The true class of each row, as a place in `labels`."""
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

    task: ClassVar[Task] = Task.SINGLE_LABEL

    @property
    def predicted(self) -> npt.NDArray[Any]:
        """The answer to each row, in the form of `references`."""
        answers: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return answers

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each row was answered rightly.

        Raises:
            InputError: the answers are numbers, of which none is right.
        """
        right: npt.NDArray[np.bool_] = self.predicted == self.references
        return right

    def measure(self, inside: npt.NDArray[np.bool_]) -> Interval:
        """The task's measure on some of the rows, and its interval: Wilson's, of a share."""
        return share_of(self.right[inside], self._groups_of(inside))

    def _groups_of(self, inside: npt.NDArray[np.bool_]) -> Groups:
        return None if self.groups is None else self.groups[inside]

    @property
    def row_numbers(self) -> npt.NDArray[np.int64]:
        """The number of each row in the split test."""
        return np.arange(len(self.texts)) if self.rows is None else self.rows

    def parts(self) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """The rows of each label that there are rows of, and its name."""
        for place, label in enumerate(self.labels):
            if (inside := self.references == place).any():
                yield label, inside

    def names(self, answers: npt.NDArray[Any]) -> list[Any]:
        """References or answers as a person would write them."""
        named: list[Any] = np.array(self.labels, dtype=object)[answers].tolist()
        return named

    def save(self, path: Path) -> None:
        """Writes the file; the same predictions give the same bytes."""
        table = pa.table(
            {
                "row": pa.array(self.row_numbers, pa.int64()),
                "text": pa.array(self.texts, pa.string()),
                "label": pa.array(self.names(self.references), self._named),
                "predicted": pa.array(self.names(self.predicted), self._named),
                **{name: pa.array(list(values), _SHARES) for name, values in self._matrices().items()},
                "tokens": pa.array(self.tokens, pa.int64()),
                **({} if self.groups is None else {"group": pa.array(self.groups, pa.int64())}),
                **{COLUMN + name: pa.array(values) for name, values in self.columns.items()},
            }
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table.replace_schema_metadata(self._facts()), path)

    _named: ClassVar[Any] = pa.string()
    """The type of the columns `label` and `predicted`."""

    def _matrices(self) -> dict[str, npt.NDArray[np.float32]]:
        return {"probabilities": self.probabilities, "logits": self.logits}

    def _facts(self) -> dict[str, str]:
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
            return PREDICTIONS[Task(facts["task"])]._of(table, facts)
        except (pa.ArrowInvalid, KeyError, ValueError, FileNotFoundError) as error:
            raise InputError(
                f"{path} holds no predictions that miniml's evaluate stage wrote ({error!r}). "
                f"Give {PREDICTIONS_NAME} of a run."
            ) from error

    @classmethod
    def _of(cls, table: pa.Table, facts: dict[str, str], **more: Any) -> Self:
        labels: list[str] = json.loads(facts["labels"])
        rows = table["row"].to_numpy()
        return cls(
            labels=tuple(labels),
            texts=table["text"].to_pylist(),
            references=cls._references(table["label"].to_pylist(), labels),
            logits=_matrix(table["logits"], len(labels) or 1),
            probabilities=cls._outputs(table, len(labels)),
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
    def _references(names: list[Any], labels: list[str]) -> npt.NDArray[Any]:
        places = {label: place for place, label in enumerate(labels)}
        return np.array([places[name] for name in names], dtype=np.int64)

    @staticmethod
    def _outputs(table: pa.Table, width: int) -> npt.NDArray[np.float32]:
        return _matrix(table["probabilities"], width)


@dataclass(frozen=True)
class LabelsPredictions(Predictions):
    """Where a text may have several labels: references and answers are truth values, shape [rows, labels]."""

    threshold: float = THRESHOLD
    """A label is given where its probability is at least this."""

    task: ClassVar[Task] = Task.MULTI_LABEL
    _named: ClassVar[Any] = pa.list_(pa.string())

    @property
    def predicted(self) -> npt.NDArray[Any]:
        given: npt.NDArray[np.bool_] = self.probabilities >= np.float32(self.threshold)
        return given

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether a row was given all of its labels, and no others."""
        right: npt.NDArray[np.bool_] = np.all(self.predicted == self.references, axis=1)
        return right

    def parts(self) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        for place, label in enumerate(self.labels):
            if (having := self.references[:, place]).any():
                yield label, having
        none: npt.NDArray[np.bool_] = ~np.any(self.references, axis=1)
        if none.any():
            yield NO_LABEL, none

    def names(self, answers: npt.NDArray[Any]) -> list[Any]:
        labels = np.array(self.labels, dtype=object)
        return [labels[row].tolist() for row in answers]

    def _facts(self) -> dict[str, str]:
        return {**super()._facts(), "threshold": repr(self.threshold)}

    @classmethod
    def _of(cls, table: pa.Table, facts: dict[str, str], **more: Any) -> Self:
        return super()._of(table, facts, threshold=float(facts["threshold"]), **more)

    @staticmethod
    def _references(names: list[Any], labels: list[str]) -> npt.NDArray[Any]:
        places = {label: place for place, label in enumerate(labels)}
        return several([[places[name] for name in of_row] for of_row in names], len(labels))


@dataclass(frozen=True)
class NumberPredictions(Predictions):
    """Where a text has a number: references and answers are numbers, shape [rows]."""

    task: ClassVar[Task] = Task.REGRESSION
    _named: ClassVar[Any] = pa.float64()

    @property
    def predicted(self) -> npt.NDArray[Any]:
        return self.probabilities[:, 0].astype(np.float64)

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        raise InputError(
            f"the predictions of {self.model_digest[:12]} are numbers, of which none is right or wrong. Give those of "
            f"a classifier."
        )

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """By how much each row was missed, in the unit of the labels."""
        errors: npt.NDArray[np.float64] = np.abs(self.predicted - self.references)
        return errors

    def measure(self, inside: npt.NDArray[np.bool_]) -> Interval:
        """The mean absolute error, and the interval that its standard error makes."""
        mean, low, high = mean_with_interval(self.errors[inside], self._groups_of(inside))
        return mean, max(0.0, low), high

    def parts(self) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """None: which ranges to make of numbers is `slices_of`'s to say."""
        yield from ()

    def names(self, answers: npt.NDArray[Any]) -> list[Any]:
        numbers: list[Any] = answers.tolist()
        return numbers

    def _matrices(self) -> dict[str, npt.NDArray[np.float32]]:
        return {"logits": self.logits}

    @staticmethod
    def _references(names: list[Any], labels: list[str]) -> npt.NDArray[Any]:
        return np.array(names, dtype=np.float64)

    @staticmethod
    def _outputs(table: pa.Table, width: int) -> npt.NDArray[np.float32]:
        return table["predicted"].to_numpy().astype(np.float32)[:, None]  # type: ignore[no-any-return]


PREDICTIONS: dict[Task, type[Predictions]] = {
    kind.task: kind for kind in (Predictions, LabelsPredictions, NumberPredictions)
}


def _matrix(column: Any, width: int) -> npt.NDArray[np.float32]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    found: npt.NDArray[np.float32] = flat.reshape(-1, width)
    return found
