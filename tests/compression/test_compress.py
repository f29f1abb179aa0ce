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
from transformers import AutoConfig, BertModel

from miniml.compression.compress import WORK_NAME, compress
from miniml.compression.outcome import NOTHING_ASKED, Selection
from miniml.compression.report import write_report
from miniml.data import preparation
from miniml.errors import InputError
from miniml.files.folders import locked
from miniml.model import manifest
from miniml.settings.compression import CompressionSettings
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.training.fine_tune import fine_tune
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
    found = replace(found, not_made=["no candidate with a shorter length: texts are short"])
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
        "No candidate with a shorter length: texts are short.",
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


@pytest.mark.parametrize(("compression", "is_refused"), [("none", False), ("length", True)])
def test_two_at_a_time_do_not_share_the_folder_of_the_candidates(
    compression: Literal["none", "length"],
    is_refused: bool,
    model_dir: Path,
    dataset_dir: Path,
    tmp_path: Path,
) -> None:
    work_dir, settings = tmp_path / "smaller.candidates", CompressionSettings(compression=compression)
    refused = pytest.raises(InputError, match="another process is writing") if is_refused else nullcontext()
    with locked(work_dir):
        (work_dir / WORK_NAME).touch()
        with refused:
            compress(dataset_dir, model_dir, tmp_path / "smaller", settings)
        assert (work_dir / WORK_NAME).exists()
    compress(dataset_dir, model_dir, tmp_path / "smaller", settings)
    assert [path.name for path in tmp_path.iterdir()] == ["smaller"]


@pytest.mark.parametrize("report", ["notes.txt/report.html", ".", "smaller/report.html", "model/report.html"])
def test_a_report_that_could_not_be_written_is_told_before_any_work(
    report: str, model_dir: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or that would be one file too many in a signed folder."""
    (tmp_path / "notes.txt").touch()
    full = shutil.copytree(model_dir, tmp_path / "model")
    settings = CompressionSettings(compression="length")
    with pytest.raises(InputError, match=r"^report .* Name a file elsewhere"):
        compress(dataset_dir, full, tmp_path / "smaller", settings, tmp_path / report)
    assert capsys.readouterr().out == ""
    assert manifest.verify(full)


def test_where_nothing_smaller_can_be_made_it_says_why_for_each_kind(
    encoder: Path,
    dataset_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    config = AutoConfig.from_pretrained(encoder, num_hidden_layers=1)
    shallow = shutil.copytree(encoder, tmp_path / "encoder")
    BertModel(config).save_pretrained(shallow)
    fine_tune(dataset_dir, tmp_path / "model", TrainingSettings(model_id=str(shallow), iterations=1))
    settings, page = CompressionSettings(compression="auto"), tmp_path / "report.html"
    found = compress(dataset_dir, tmp_path / "model", tmp_path / "smaller", settings, page)
    assert found.reason.startswith(
        "no smaller model could be made of this one: no candidate with fewer layers: the full model has one layer; no "
        "candidate with a shorter length: it would hardly save any tokens; no candidate in int8: int8 needs a processor"
    )
    assert json.loads((tmp_path / "smaller" / manifest.NO_MODEL_NAME).read_text())["reason"] == found.reason
    assert "has one layer" in page.read_text()
    found.save(tmp_path / "selection.json")
    assert Selection.read(tmp_path / "selection.json") == found
    assert "timing the full model on its fastest engine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "name"), [("arguments", "training"), ("arguments", "pretrained"), ("data", "rows_per_class")]
)
def test_a_model_that_does_not_say_how_it_was_trained_is_refused(
    part: Literal["arguments", "data"], name: str, model_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    other = signed_without(model_dir, tmp_path / "other", part, name)
    with pytest.raises(InputError, match=rf"does not say how it was trained.* has no {part}\.{name}\."):
        compress(dataset_dir, other, tmp_path / "smaller", CompressionSettings(compression="length"))


@pytest.mark.parametrize("compression", ["layers", "length"])
def test_a_model_that_does_not_say_what_its_run_used_is_made_smaller_all_the_same(
    compression: Literal["layers", "length"], model_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    early = signed_without(model_dir, tmp_path / "early", "arguments", "used")
    settings = CompressionSettings(compression=compression, distillation_epochs=1)
    found = compress(dataset_dir, early, tmp_path / "smaller", settings)
    assert len(found.candidates) == (compression == "layers")


def signed_without(source: Path, folder: Path, part: Literal["arguments", "data"], name: str) -> Path:
    """A copy of a model folder whose manifest lacks something."""
    shutil.copytree(source, folder)
    signed = manifest.read(folder)
    parts = {"arguments": dict(signed.arguments), "data": dict(signed.data)}
    del parts[part][name]
    manifest.sign(folder, **parts, versions=signed.versions, metrics=signed.metrics)
    return folder
