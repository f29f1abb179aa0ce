"""`predictions.parquet`: every test row with the model's answer, for the next gate and for anyone's own analysis.

Any reader of Parquet takes it; `Predictions.read` also knows what the numbers are of:

    >>> from miniml.predictions import Predictions
    >>> told = Predictions.read(Path("local_outputs/latest/predictions.parquet"))
    >>> told.labels, told.right.mean()

Columns: `row` (its number in the split test), `text`, `label`, `predicted` (names), `probabilities` and `logits` (a
list each, in the order of the labels; the logits are those before the temperature), `tokens` (how many are read),
and the test's further columns under `column: <name>`. The schema's metadata holds `labels` (JSON), `model_digest`,
`data_fingerprint` and `temperature`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as parquet

from miniml.errors import InputError

PREDICTIONS_NAME = "predictions.parquet"
COLUMN = "column: "
"""Before the name of a further column, which may be called as one of ours."""


@dataclass(frozen=True)
class Predictions:
    """What one model said of every test row."""

    labels: tuple[str, ...]
    texts: list[str]
    references: npt.NDArray[np.int64]
    """The true class of each row, as a place in `labels`."""
    probabilities: npt.NDArray[np.float32]
    """Shape [rows, labels], as the model would be served."""
    logits: npt.NDArray[np.float32]
    """Shape [rows, labels], before the temperature."""
    tokens: npt.NDArray[np.int64]
    """How many tokens of each text the model reads."""
    model_digest: str
    data_fingerprint: str
    temperature: float = 1.0
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """The further columns of the test, by name."""

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """The answer to each row, as a place in `labels`."""
        answers: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return answers

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each row was answered rightly."""
        right: npt.NDArray[np.bool_] = self.predicted == self.references
        return right

    def save(self, path: Path) -> None:
        """Writes the file; the same predictions give the same bytes."""
        names = np.array(self.labels, dtype=object)
        shares = pa.list_(pa.float32())
        table = pa.table(
            {
                "row": pa.array(range(len(self.texts)), pa.int64()),
                "text": pa.array(self.texts, pa.string()),
                "label": pa.array(names[self.references], pa.string()),
                "predicted": pa.array(names[self.predicted], pa.string()),
                "probabilities": pa.array(list(self.probabilities), shares),
                "logits": pa.array(list(self.logits), shares),
                "tokens": pa.array(self.tokens, pa.int64()),
                **{COLUMN + name: pa.array(values) for name, values in self.columns.items()},
            }
        )
        facts = {
            "labels": json.dumps(self.labels),
            "model_digest": self.model_digest,
            "data_fingerprint": self.data_fingerprint,
            "temperature": repr(self.temperature),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table.replace_schema_metadata(facts), path)

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is another one.
        """
        try:
            table = parquet.read_table(path)
            facts = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
            labels: list[str] = json.loads(facts["labels"])
            places = {label: place for place, label in enumerate(labels)}
            return cls(
                labels=tuple(labels),
                texts=table["text"].to_pylist(),
                references=np.array([places[label] for label in table["label"].to_pylist()], dtype=np.int64),
                probabilities=_matrix(table["probabilities"], len(labels)),
                logits=_matrix(table["logits"], len(labels)),
                tokens=table["tokens"].to_numpy(),
                model_digest=facts["model_digest"],
                data_fingerprint=facts["data_fingerprint"],
                temperature=float(facts["temperature"]),
                columns={
                    name.removeprefix(COLUMN): table[name].to_pylist()
                    for name in table.column_names
                    if name.startswith(COLUMN)
                },
            )
        except (pa.ArrowInvalid, KeyError, ValueError, FileNotFoundError) as error:
            raise InputError(
                f"{path} holds no predictions that miniml's evaluate stage wrote ({error!r}). "
                f"Give {PREDICTIONS_NAME} of a run."
            ) from error


def _matrix(column: Any, labels: int) -> npt.NDArray[np.float32]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    found: npt.NDArray[np.float32] = flat.reshape(-1, labels)
    return found
