"""The notebook runs as it stands, and shows what a person came for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests import patience
from tests.command import ROOT

NOTEBOOK = ROOT / "notebooks" / "text_classification.ipynb"


def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def executed(reviews: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook after all its cells have run on this machine, on few rows and with a tiny model."""
    arguments = {
        "dataset_id": str(reviews),
        "model_id": str(encoder),
        "row_filter": "",
        "label_names": "bad,good",
        "max_length": 32,
        "iterations": 60,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "beat_baseline": False,
    }
    book = notebook()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIML_ARGUMENTS", json.dumps(arguments))
        patch.setenv("MINIML_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        patch.delenv("KFP_HOST", raising=False)
        NotebookClient(
            book,
            timeout=patience.SECONDS,
            startup_timeout=patience.SECONDS,
            resources={"metadata": {"path": str(ROOT)}},
        ).execute()
    return book


def printed(book: Any, words: str) -> str:
    """What the cell with these words in its code printed."""
    [cell] = [cell for cell in book.cells if cell.cell_type == "code" and words in cell.source]
    return "".join(output.get("text", "") for output in cell.outputs)


def test_it_follows_the_run_from_stage_to_stage(executed: Any) -> None:
    shown = printed(executed, "run.wait()")
    assert "[1/7] preflight" in shown
    assert "[7/7] deploy" in shown


def test_it_reads_the_figures(executed: Any) -> None:
    figures = printed(executed, "interval {accuracy")
    assert "accuracy 0.9" in figures or "accuracy 1.0" in figures
    assert figures.rstrip().endswith("deployed")


def test_it_shows_the_report(executed: Any) -> None:
    [cell] = [cell for cell in executed.cells if "iframe" in cell.source]
    assert "Confusion matrix" in cell.outputs[0]["data"]["text/html"]


def test_it_asks_the_service(executed: Any) -> None:
    answers = printed(executed, "results.ask").splitlines()
    assert len(answers) == 2
    assert all("'bad'" in answer and "'good'" in answer for answer in answers)


def test_it_is_kept_without_outputs_so_that_what_is_read_was_run_here() -> None:
    book = notebook()
    assert all(not cell.outputs for cell in book.cells if cell.cell_type == "code")
