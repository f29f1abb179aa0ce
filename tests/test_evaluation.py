"""Figures that are right, on rows that training never saw, and a page that shows them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from miniml import data
from miniml.classifier import Classifier
from miniml.errors import InputError
from miniml.evaluation import evaluate_model
from miniml.evaluation_result import EvaluationResult
from miniml.manifest import read
from miniml.report import read_history, write_report
from miniml.settings import DataSettings


@pytest.fixture(scope="module")
def result(model_dir: Path, dataset_dir: Path) -> EvaluationResult:
    return evaluate_model(model_dir, dataset_dir)


def test_the_accuracy_is_that_of_the_classifier_on_the_test(
    result: EvaluationResult, model_dir: Path, dataset_dir: Path
) -> None:
    test = data.load(dataset_dir, ("test",))[0]["test"]
    answers = Classifier.load(model_dir).predict(list(test["text"]))
    names = test.features["label"].names
    right = sum(answer.label == names[label] for answer, label in zip(answers, test["label"], strict=True))
    assert result.accuracy.value == right / len(test)
    assert result.test_rows == len(test) == sum(map(sum, result.confusion_matrix))
    assert [scores.label for scores in result.classes] == ["bad", "good"]
    assert result.accuracy.low < result.accuracy.value <= result.accuracy.high


def test_figures_survive_the_disk(result: EvaluationResult, tmp_path: Path) -> None:
    result.save(tmp_path / "metrics")
    assert EvaluationResult.read(tmp_path / "metrics") == result


def test_another_dataset_than_the_model_was_trained_on_is_refused(
    model_dir: Path, reviews: Path, tmp_path: Path
) -> None:
    data.prepare(DataSettings(dataset_id=str(reviews), label_names="bad,good", seed=7), tmp_path / "other")
    with pytest.raises(InputError, match="may have been the other's training"):
        evaluate_model(model_dir, tmp_path / "other")


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_data(self, words: str) -> None:
        self.words += words


def test_the_report_is_one_page_with_three_pictures_and_nothing_external(
    result: EvaluationResult, model_dir: Path, tmp_path: Path
) -> None:
    write_report(result, read(model_dir), read_history(model_dir), tmp_path / "report.html")
    page = _Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 3
    assert all(address.startswith("#") for address in page.addresses)
    assert "script" not in page.tags
    for words in (
        f"{100 * result.accuracy.value:.1f} %",
        "Training curve",
        "Confusion matrix",
        result.model_digest,
    ):
        assert words in page.words
    assert set(re.findall(r"bad|good", page.words)) == {"bad", "good"}


def test_hostile_label_names_are_shown_and_not_run(
    result: EvaluationResult, model_dir: Path, tmp_path: Path
) -> None:
    hostile = ["<script>alert(1)</script>", r"$\frac{1"]
    classes = [
        type(scores)(**{**vars(scores), "label": name})
        for scores, name in zip(result.classes, hostile, strict=True)
    ]
    changed = EvaluationResult(**{**vars(result), "classes": classes})
    write_report(changed, read(model_dir), [], tmp_path / "report.html")
    page = _Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "<script>alert(1)" in page.words
