"""The reports in the frame where KFP's UI shows them, some 500 points wide, with names that are made to overflow it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miniml.data import prepared
from miniml.data import report as data_report
from miniml.data.findings import CHECKS, Example, Findings, Passage
from miniml.data.report_request import ReportRequest
from miniml.data.tokens import measure
from miniml.evaluation.report import write_report as write_evaluation
from miniml.evaluation.result import ClassScores, Estimate, Mistake, Slice
from miniml.model.attribution import Attribution
from miniml.model.history import read_history
from miniml.model.manifest import Manifest, read
from miniml.search.failure import Failure, write_failure_report
from miniml.settings.training import TrainingSettings
from miniml.training.report import write_report as write_training
from tests.browser import Browser
from tests.gate.test_gate import RESULT
from tests.search import test_search_report

FRAME = 500
"""Points that KFP 2.17 gives a page of a run. [cluster]"""
DIGEST = "0123456789abcdef" * 4
DATASET = f"s3://mlpipeline/a/long/way/to/reviews@sha256:{DIGEST}#sha256={DIGEST}"
MODEL = f"s3://mlpipeline/encoders/all-minilm-l6-v2@sha256:{DIGEST}#sha256={DIGEST}"
LABELS = [
    "Pneumonoultramicroscopicsilicovolcanoconiosis" * 2,
    "a label of many words that somebody has written as a whole sentence " * 2,
    *(f"customer_service__complaint_number_{number}_about_deliveries" for number in range(38)),
]


@pytest.fixture(scope="module")
def model(model_dir: Path) -> Manifest:
    """A manifest of a run whose sources were pinned, and that has many classes."""
    found = read(model_dir)
    arguments = {
        name: {**value} if isinstance(value, dict) else value for name, value in found.arguments.items()
    }
    arguments["training"]["model_id"] = "s3://mlpipeline/encoders/all-minilm-l6-v2@v1"
    arguments["data"]["dataset_id"] = "s3://mlpipeline/a/long/way/to/reviews@v1"
    counts = dict.fromkeys(("train", "validation", "test"), dict.fromkeys(LABELS, 3))
    return replace(
        found,
        arguments={**arguments, "pretrained": MODEL},
        data={**found.data, "source": DATASET, "labels": LABELS, "rows_per_class": counts},
    )


def write_data(model: Manifest, model_dir: Path, dataset_dir: Path, path: Path) -> None:
    splits, summary = prepared.load(dataset_dir)
    settings = {**summary.settings, **model.arguments["data"], "row_filter": "a_column=" + "x" * 200}
    counts = model.data["rows_per_class"]
    summary = replace(summary, source=DATASET, settings=settings, labels=LABELS, rows_per_class=counts)
    passages = (Passage("train, row 80", "word " * 40 + "x" * 300, LABELS[0]),)
    findings = Findings(examples={check: [Example(passages)] for check in CHECKS})
    lengths = replace(measure(splits, "nowhere/at/all", 32), trouble="x" * 300)
    data_report.write_report(summary, findings, lengths, ReportRequest(path, MODEL, 32), np.zeros(1))


def write_test(model: Manifest, model_dir: Path, dataset_dir: Path, path: Path) -> None:
    matrix = (5 * np.eye(len(LABELS), dtype=int)).tolist()
    matrix[0][1] = matrix[3][7] = 9
    figure = Estimate(0.6, 0.45, 0.74)
    result = replace(
        RESULT,
        classes=[ClassScores(label, 0.9, 0.9, 0.9, 5000) for label in LABELS],
        confusion_matrix=matrix,
        slices=[Slice("a_long_name_of_a_column", label, 40_000, figure) for label in LABELS],
        small_slices=[Slice("source", label, 3, figure) for label in LABELS],
        mistakes=[
            Mistake(7, LABELS[0], LABELS[1], 0.98, [Attribution("x" * 200, 2.5, 0.4), Attribution(" a")])
        ],
        learnt_rows=12,
        baseline_name="TF-IDF and logistic regression",
    )
    write_evaluation(result, model, read_history(model_dir), path)


def write_course(model: Manifest, model_dir: Path, dataset_dir: Path, path: Path) -> None:
    write_training(model, read_history(model_dir), path)


def write_search(model: Manifest, model_dir: Path, dataset_dir: Path, path: Path) -> None:
    space = {
        "model_id": [MODEL, MODEL.replace("0", "9"), "b" * 80],
        "learning_rate": {"low": 1e-5, "high": 1e-3},
    }
    test_search_report.written(path, space=json.dumps(space), model_id=MODEL)


def write_failure(model: Manifest, model_dir: Path, dataset_dir: Path, path: Path) -> None:
    write_failure_report(Failure(vars(TrainingSettings(model_id=MODEL)), "x" * 300), path)


@pytest.mark.browser
@pytest.mark.parametrize("write", [write_data, write_course, write_test, write_search, write_failure])
def test_no_name_makes_a_page_wider_than_its_frame(
    write: Callable[[Manifest, Path, Path, Path], None],
    model: Manifest, model_dir: Path, dataset_dir: Path, browser: Browser, tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "report.html"
    write(model, model_dir, dataset_dir, path)
    for width in (360, FRAME, 1200):
        browser.open(path.as_uri(), width)
        assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.text_of("h1") in ("all-minilm-l6-v2", "all-minilm-l6-v2@v1", "reviews@v1")
    # Of a digest the beginning is seen, and all of it is there to be copied.
    seen = (
        "[...document.querySelectorAll('header .digest')].map(d => [d.offsetWidth, d.textContent, d.title])"
    )
    for shown, text, title in browser.run(seen):
        assert shown < 120
        assert text == title
        assert len(text) == len(DIGEST)
