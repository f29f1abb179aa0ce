"""Every prediction of the test, as a file that any reader of Parquet takes, and ours reads back whole."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from miniml.errors import InputError
from miniml.evaluation.predictions import Predictions
from miniml.tasks.single_label.predictions import SingleLabelPredictions


@pytest.fixture
def predictions() -> Predictions:
    return SingleLabelPredictions(
        labels=("<b>bad</b>", "gut & schön", "'; DROP"),
        texts=["a", "ä\n好", ""],
        references=np.array([0, 1, 2]),
        probabilities=np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0, 0, 1]], dtype=np.float32),
        logits=np.array([[2, 1, 0], [3, 2, 1], [-9, -9, 9]], dtype=np.float32),
        tokens=np.array([3, 4, 2]),
        model_digest="0" * 64,
        data_fingerprint="1" * 64,
        temperature=1.7,
        groups=np.array([7, 7, -1]),
        rows=np.array([0, 4, 9]),
        columns={"label": ["x", None, "z"], "day": [date(2026, 1, 2)] * 3, "stars": [1, 2, None]},
    )


def test_what_is_saved_is_read_back(predictions: Predictions, tmp_path: Path) -> None:
    predictions.save(tmp_path / "new" / "predictions.parquet")
    found = Predictions.read(tmp_path / "new" / "predictions.parquet")
    for name, value in vars(predictions).items():
        np.testing.assert_equal(getattr(found, name), value)
    assert found.correct.tolist() == [True, False, True]


def test_other_readers_see_names_in_words_and_further_columns_apart_from_ours(
    predictions: Predictions, tmp_path: Path
) -> None:
    predictions.save(tmp_path / "file")
    predictions.save(tmp_path / "again")
    assert (tmp_path / "file").read_bytes() == (tmp_path / "again").read_bytes()
    table = parquet.read_table(tmp_path / "file")
    row = table.to_pylist()[1]
    assert (row["row"], row["text"], row["label"], row["predicted"]) == (
        4,
        "ä\n好",
        "gut & schön",
        "<b>bad</b>",
    )
    assert row["probabilities"] == pytest.approx([0.5, 0.3, 0.2])
    assert (row["column: label"], row["column: day"], row["column: stars"]) == (None, date(2026, 1, 2), 2)


@pytest.mark.parametrize("content", [b"", b"PAR1 or not"])
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match="holds no predictions that miniml's evaluate stage wrote"):
        Predictions.read(tmp_path / "file")
    with pytest.raises(InputError, match=r"Give predictions\.parquet"):
        Predictions.read(tmp_path / "nowhere")
