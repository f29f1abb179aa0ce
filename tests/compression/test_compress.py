"""The compress stage: what it writes where a smaller model is chosen, where none is, and where none was asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from miniml.compression.compress import compress
from miniml.compression.outcome import NOTHING_ASKED
from miniml.compression.report import write_report
from miniml.data import preparation
from miniml.errors import InputError
from miniml.model import manifest
from miniml.settings.compression import CompressionSettings
from miniml.settings.data import DataSettings
from tests import tiny
from tests.command import ROOT
from tests.compression.test_selection import candidate, selection


def test_without_a_compression_no_model_is_written_and_the_folder_says_why(
    model_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    found = compress(
        dataset_dir, model_dir, tmp_path / "smaller", CompressionSettings(), tmp_path / "report.html"
    )
    assert found.chosen is None
    assert [path.name for path in (tmp_path / "smaller").iterdir()] == [manifest.NO_MODEL_NAME]
    assert not manifest.holds_model(tmp_path / "smaller")
    assert "No smaller model" in (tmp_path / "report.html").read_text()
    assert found.of_chosen() == {}


def test_without_a_compression_the_stage_needs_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from miniml.compression.compress import compress\n"
        "from miniml.settings.compression import CompressionSettings\n"
        f"here = Path({str(tmp_path)!r})\n"
        "compress(here, here, here / 'smaller', CompressionSettings(), here / 'report.html')\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_what_is_written_is_the_chosen_candidate_or_the_reason_that_there_is_none(
    model_dir: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How fast a tiny model is tells of the machine, so either may be."""
    settings = CompressionSettings(compression="layers", max_loss=0.9, distillation_epochs=1)
    found = compress(dataset_dir, model_dir, tmp_path / "smaller", settings, tmp_path / "report.html")
    assert [each.layers for each in found.candidates] == [1]
    if found.chosen:
        assert manifest.verify(tmp_path / "smaller").digest == found.chosen.digest
    else:
        stored = json.loads((tmp_path / "smaller" / manifest.NO_MODEL_NAME).read_text())
        assert stored["reason"] == found.reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "smaller"]
    assert "too few" not in capsys.readouterr().out


def test_rows_that_cannot_show_what_is_asked_are_told_before_anything_is_trained(
    model_dir: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For max_loss 0.1 there are enough in the test, and too few for validation."""
    settings = CompressionSettings(compression="length", max_loss=0.1)
    compress(dataset_dir, model_dir, tmp_path / "smaller", settings)
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == (
        "miniml: 24 validation rows are too few for max_loss 0.1: it takes 29 to show it of a model that answers all "
        "of them as the full one does, and more of any other"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["smaller"]


def test_the_report_shows_every_candidate_with_its_figures_and_verdict(tmp_path: Path) -> None:
    found = selection(candidate("layers-3", 1.9, 0.01), candidate("layers-2", 2.8, 0.3, 7000))
    found = found.with_seconds({"layers-3": 95.0, "layers-2": 60.0})
    write_report(found, CompressionSettings(compression="layers"), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for words in (
        "1.9 × as fast",
        "not inferior: <b>chosen</b>",
        "1:35",
        "it would take about 7,000",
        "−0.2",
        "−0.6 to +0.2",
        "<svg",
    ):
        assert words in page
    of_nothing = replace(NOTHING_ASKED, asked=True)
    write_report(of_nothing, CompressionSettings(compression="auto"), tmp_path / "none.html")
    assert "No smaller model could be made of this one" in (tmp_path / "none.html").read_text()


@pytest.mark.parametrize("output", [".", "..", "inside"])
def test_a_folder_that_the_full_model_would_suffer_from_is_refused(
    output: str, model_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    """Even a folder that looks like an earlier output: the full model's own, one around it, or one within."""
    outer = shutil.copytree(model_dir, tmp_path / "outer")
    full = shutil.copytree(model_dir, outer / "full")
    with pytest.raises(InputError, match="the full model"):
        compress(dataset_dir, full, full / output, CompressionSettings(compression="length"))
    assert manifest.verify(full).digest == manifest.read(model_dir).digest


def test_where_no_loss_is_accepted_it_says_what_that_takes(
    model_dir: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = CompressionSettings(compression="length", max_loss=0.0)
    compress(dataset_dir, model_dir, tmp_path / "smaller", settings)
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == "miniml: max_loss 0 accepts no loss: only a model that is shown to be better is served"


def test_a_model_of_before_there_were_tasks_is_a_single_label_one(
    model_dir: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early, signed = shutil.copytree(model_dir, tmp_path / "early"), manifest.read(model_dir)
    manifest.sign(
        early,
        data={name: value for name, value in signed.data.items() if name != "task"},
        arguments=signed.arguments,
        versions=signed.versions,
        metrics=signed.metrics,
    )
    compress(dataset_dir, early, tmp_path / "smaller", CompressionSettings(compression="length"))
    first, *_ = capsys.readouterr().out.splitlines()
    assert "24 validation rows are too few" in first


def test_another_dataset_is_refused_whatever_is_tried(model_dir: Path, tmp_path: Path) -> None:
    rows = tiny.write_reviews(tmp_path / "reviews.csv", 80)
    preparation.prepare(DataSettings(dataset_id=str(rows)), tmp_path / "other")
    settings = CompressionSettings(compression="length")
    with pytest.raises(InputError, match="was trained on another dataset"):
        compress(tmp_path / "other", model_dir, tmp_path / "smaller", settings)


@pytest.mark.parametrize(("compression", "is_refused"), [("none", False), ("length", True)])
def test_a_folder_of_somebody_else_that_is_named_as_the_candidates_would_be_is_kept(
    compression: Literal["none", "length"],
    is_refused: bool,
    model_dir: Path,
    dataset_dir: Path,
    tmp_path: Path,
) -> None:
    theirs = tmp_path / "smaller.candidates" / "theirs.txt"
    theirs.parent.mkdir()
    theirs.touch()
    refused = pytest.raises(InputError, match="would be lost") if is_refused else nullcontext()
    with refused:
        compress(dataset_dir, model_dir, tmp_path / "smaller", CompressionSettings(compression=compression))
    assert theirs.exists()
