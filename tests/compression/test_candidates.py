"""The smaller models that are made of a full one, as the settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from miniml.compression.candidates import make_candidates
from miniml.compression.layers import UncuttableError
from miniml.data import preparation
from miniml.errors import InputError
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.settings.compression import CompressionSettings
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.training.fine_tune import fine_tune
from tests import families, tiny
from tests.conftest import TRAINING


@pytest.fixture(scope="module")
def long_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose texts are longer than the lengths that are tried."""
    folder = tmp_path_factory.mktemp("long")
    rows = (tiny.review(number % 2, number) for number in range(60))
    lines = [f"{(text + ' ') * 16},{number % 2}" for number, text in enumerate(rows)]
    (folder / "reviews.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    preparation.prepare(
        DataSettings(dataset_id=str(folder / "reviews.csv"), label_names="bad,good"), folder / "dataset"
    )
    return folder / "dataset"


@pytest.fixture
def without_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which "auto" makes no candidate in int8; those are in test_quantization.py."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")


def test_auto_makes_models_of_fewer_layers_of_a_shorter_length_and_of_both(
    long_texts: Path, tmp_path: Path, without_int8: None
) -> None:
    encoder = families.write_family(tmp_path / "encoder", "bert", max_position_embeddings=256)
    families.write_tokenizer(encoder, model_max_length=256)
    few = {**TRAINING, "iterations": 2, "max_length": 256}
    fine_tune(long_texts, tmp_path / "full", TrainingSettings(model_id=str(encoder), **few))
    settings = CompressionSettings(compression="auto", distillation_epochs=1)
    made = make_candidates(long_texts, tmp_path / "full", tmp_path / "work", settings)
    assert [(one.name, one.layers, one.max_length, one.description) for one in made] == [
        ("layers-1", 1, 256, "1 of 2 layers"),
        ("length-128", 2, 128, "128 of 256 tokens"),
        ("layers-1-length-128", 1, 128, "1 of 2 layers, 128 of 256 tokens"),
        ("length-64", 2, 64, "64 of 256 tokens"),
        ("layers-1-length-64", 1, 64, "1 of 2 layers, 64 of 256 tokens"),
    ]
    digests = {manifest.verify(one.folder).digest for one in made}
    assert len(digests) == len(made)
    for one in made:
        assert Classifier.load(one.folder).max_length == one.max_length
        assert one.seconds > 0


def test_a_killed_run_finds_what_it_had_made(
    dataset_dir: Path, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = CompressionSettings(compression="layers", distillation_epochs=1)
    [first] = make_candidates(dataset_dir, model_dir, tmp_path, settings)
    signed = manifest.read(first.folder).digest
    capsys.readouterr()
    [again] = make_candidates(dataset_dir, model_dir, tmp_path, settings)
    assert manifest.verify(again.folder).digest == signed
    output = capsys.readouterr().out
    assert "this very training is finished already" in output
    assert "asking the full model" not in output


def test_short_texts_make_no_candidate_of_a_shorter_length(
    dataset_dir: Path, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_candidates(dataset_dir, model_dir, tmp_path, CompressionSettings(compression="length")) == []
    assert "no candidate with a shorter length" in capsys.readouterr().out
    assert make_candidates(dataset_dir, model_dir, tmp_path, CompressionSettings()) == []


def test_as_many_layers_as_the_full_model_has_are_refused(
    dataset_dir: Path, model_dir: Path, tmp_path: Path
) -> None:
    settings = CompressionSettings(compression="layers", student_layers=2)
    with pytest.raises(InputError, match="student_layers is 2, but the full model has 2 layers"):
        make_candidates(dataset_dir, model_dir, tmp_path, settings)


def test_a_model_that_cannot_be_cut_is_refused_only_where_nothing_else_would_do(
    dataset_dir: Path, tmp_path: Path, without_int8: None, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = families.write_family(tmp_path / "encoder", "esmc")
    families.write_tokenizer(encoder, model_max_length=60)
    few = {**TRAINING, "iterations": 1, "learning_rate": 1e-3}
    fine_tune(dataset_dir, tmp_path / "full", TrainingSettings(model_id=str(encoder), **few))
    with pytest.raises(UncuttableError, match="esmc"):
        make_candidates(
            dataset_dir, tmp_path / "full", tmp_path / "work", CompressionSettings(compression="layers")
        )
    capsys.readouterr()
    made = make_candidates(
        dataset_dir, tmp_path / "full", tmp_path / "work", CompressionSettings(compression="auto")
    )
    assert made == []
    assert "no candidate with fewer layers: a model of the type esmc" in capsys.readouterr().out
