"""The compress step watches its trainings: a child that dies is started again, and what would fail again is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from miniml.compression.outcome import Selection
from miniml.compression.watched import CompressionRequest, compress_watched
from miniml.errors import InputError
from miniml.model import manifest
from miniml.settings.compression import CompressionSettings
from miniml.settings.training import TrainingSettings
from miniml.supervision.supervisor import Retries
from miniml.training.fine_tune import fine_tune
from tests.command import ROOT
from tests.conftest import TRAINING
from tests.killed import children_that_end

AT_ONCE = Retries(wait=0.0)


@pytest.fixture(scope="module")
def full_dir(dataset_dir: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full model, whose trainings and those of its smaller models save a checkpoint after every step."""
    folder = tmp_path_factory.mktemp("full") / "model"
    few = {**TRAINING, "iterations": 2, "checkpoint_interval": 0}
    fine_tune(dataset_dir, folder, TrainingSettings(model_id=str(encoder), **few))
    return folder


def request(folder: Path, dataset_dir: Path, full_dir: Path, **settings: Any) -> CompressionRequest:
    values = {"compression": "layers", "max_loss": 0.9, "distillation_epochs": 1, **settings}
    files = (folder / "report.html", folder / "metrics")
    return CompressionRequest(
        dataset_dir, full_dir, folder / "smaller", CompressionSettings(**values), *files
    )


def test_a_child_that_is_killed_or_lacks_memory_is_started_again_and_goes_on_with_its_training(
    dataset_dir: Path,
    full_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    ways = ("os.kill(os.getpid(), signal.SIGKILL)", "raise torch.OutOfMemoryError('CUDA out of memory.')")
    (tmp_path / "ways").mkdir()
    environment = children_that_end(*ways, at_step=6, folder=tmp_path / "ways", module="miniml.compression")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked = request(tmp_path, dataset_dir, full_dir)
    found = compress_watched(asked, AT_ONCE)
    output = capfd.readouterr().out
    assert "the compression died (killed by SIGKILL): try 2 of 3, from its last checkpoint\n" in output
    assert "try 3 of 3, from its last checkpoint, with batches of 8 × 2 for as many texts" in output
    assert output.count("continuing from step ") == 2
    assert [each.layers for each in found.candidates] == [1]
    assert Selection.read(asked.metrics) == found
    assert manifest.holds_model(asked.smaller_dir) is (found.chosen is not None)
    assert asked.report.exists()


def test_a_setting_that_cannot_be_used_is_told_once_and_not_tried_again(
    dataset_dir: Path, full_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"^student_layers is 9, but the full model has 2 layers"):
        compress_watched(request(tmp_path, dataset_dir, full_dir, student_layers=9), AT_ONCE)
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err
    assert "died" not in printed.out


def test_the_parent_imports_nothing_of_the_training_s_nor_does_a_step_that_makes_no_smaller_model(
    tmp_path: Path,
) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from miniml.compression.watched import CompressionRequest, compress_watched\n"
        "from miniml.settings.compression import CompressionSettings\n"
        f"here = Path({str(tmp_path)!r})\n"
        "files = (here / 'smaller', CompressionSettings(), here / 'report.html', here / 'metrics')\n"
        "print({'torch', 'transformers', 'datasets', 'matplotlib'} & sys.modules.keys() or '')\n"
        "compress_watched(CompressionRequest(here, here, *files))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    before, *_, after = done.stdout.splitlines()
    assert (before, after) == ("", "False")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics", "report.html", "smaller"]
