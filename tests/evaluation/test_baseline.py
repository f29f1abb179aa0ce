"""The baseline learns what words tell, in any script, and bounds what it takes."""

from __future__ import annotations

import numpy as np
import pytest

from miniml.evaluation import baseline
from miniml.tasks.single_label.baseline import SingleLabelBaseline
from tests import tiny


def test_it_learns_which_words_are_good() -> None:
    rows = range(200)
    model = SingleLabelBaseline(2).fit([tiny.review(row % 2, row) for row in rows], [row % 2 for row in rows])
    found = model.predict_probabilities([tiny.review(row % 2, 1000 + row) for row in rows])
    assert (found.argmax(axis=1) == np.arange(200) % 2).mean() > 0.95
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert model.name == "TF-IDF with logistic regression, 200 training rows"


def test_a_script_without_blanks_has_words_too_and_signs_count() -> None:
    model = SingleLabelBaseline(2).fit(
        ["很好吃", "不好吃", "很好", "不好", "!", "?"] * 5, [1, 0, 1, 0, 1, 0] * 5
    )
    assert model.predict_probabilities(["很", "不", "!", "?"]).argmax(axis=1).tolist() == [1, 0, 1, 0]


def test_a_class_that_it_never_saw_has_no_probability() -> None:
    model = SingleLabelBaseline(3).fit(["good", "bad"] * 4, [2, 0] * 4)
    assert model.predict_probabilities(["good", "unheard of"])[:, 1].tolist() == [0, 0]


def test_of_many_rows_it_takes_as_many_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MAX_ROWS", 50)
    model = SingleLabelBaseline(2).fit(
        [tiny.review(row // 100, row) for row in range(200)], [row // 100 for row in range(200)]
    )
    assert model.rows == 50
    assert set(model.predict_probabilities(["great", "awful"]).argmax(axis=1)) == {0, 1}
