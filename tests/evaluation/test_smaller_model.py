"""A smaller model meets the test beside the full one, and is what is evaluated and served unless it is inferior."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from miniml.champion.record import Champion
from miniml.compression.layers import keep_layers
from miniml.errors import InputError
from miniml.evaluation.evaluate import evaluate_model
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.report import write_report
from miniml.evaluation.result import EvaluationResult
from miniml.evaluation.smaller_model import SmallerModel
from miniml.gate.rules import judge
from miniml.model import manifest
from miniml.model.history import read_history
from miniml.settings.evaluation import EvaluationSettings
from miniml.settings.gate import GateSettings
from tests import tiny

PLAIN = EvaluationSettings()


@pytest.fixture(scope="module")
def smaller_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of the model's two layers."""
    folder = tmp_path_factory.mktemp("smaller") / "model"
    keep_layers(model_dir, [0], folder)
    return folder


@pytest.fixture(scope="module")
def served(model_dir: Path, smaller_dir: Path, dataset_dir: Path) -> EvaluationResult:
    """The evaluation where any loss is accepted."""
    return evaluate_model(model_dir, dataset_dir, smaller=SmallerModel(smaller_dir, 0.99, 2.1))


@pytest.fixture(scope="module")
def refused(model_dir: Path, smaller_dir: Path, dataset_dir: Path) -> EvaluationResult:
    """The evaluation where no 60 rows could show that so little is lost."""
    return evaluate_model(model_dir, dataset_dir, smaller=SmallerModel(smaller_dir, 0.001, 2.1))


def test_a_smaller_model_that_is_not_inferior_is_the_evaluated_one(
    served: EvaluationResult, model_dir: Path, smaller_dir: Path, dataset_dir: Path
) -> None:
    smaller, full = manifest.read(smaller_dir).digest, manifest.read(model_dir).digest
    assert served.compressed is not None
    assert (served.compressed.served, served.model_digest) == (True, smaller)
    assert (served.compressed.digest, served.compressed.full_digest) == (smaller, full)
    alone = evaluate_model(smaller_dir, dataset_dir)
    assert (served.figures, served.samples) == (alone.figures, alone.samples)
    assert "points of accuracy (95 % interval " in served.compressed.sentence
    assert "2.1 × as fast: shown to lose less than max_loss 0.99 (p = " in served.compressed.sentence
    assert served.compressed.sentence.endswith("so that it takes the full model's place")


def test_a_smaller_model_that_may_be_inferior_is_refused_and_the_full_one_evaluated(
    refused: EvaluationResult, model_dir: Path, dataset_dir: Path
) -> None:
    assert refused.compressed is not None
    assert not refused.compressed.served
    assert refused.model_digest == manifest.read(model_dir).digest
    assert refused.figures == evaluate_model(model_dir, dataset_dir).figures
    assert "refused, because it is not shown to lose less than max_loss 0.001" in refused.compressed.sentence
    assert refused.compressed.sentence.endswith("the full model is evaluated")


def test_the_gain_is_that_of_the_smaller_model_over_the_full_one(
    refused: EvaluationResult, smaller_dir: Path, model_dir: Path, dataset_dir: Path
) -> None:
    assert refused.compressed is not None
    accuracies = [evaluate_model(folder, dataset_dir).accuracy.value for folder in (smaller_dir, model_dir)]
    gain = refused.compressed.test.comparison.gain.value
    assert gain == pytest.approx(accuracies[0] - accuracies[1])


def test_what_became_of_it_survives_the_disk_and_stands_in_the_verdict(
    served: EvaluationResult, refused: EvaluationResult, tmp_path: Path
) -> None:
    for result in (served, refused):
        result.save(tmp_path / "metrics")
        read = EvaluationResult.read(tmp_path / "metrics")
        assert read == result
        verdict = judge(read, GateSettings(0.0, beat_majority=False))
        assert verdict.approved
        assert verdict.model_digest == result.model_digest
        assert result.compressed is not None
        assert result.compressed.sentence in verdict.reasons


def test_the_report_says_it_too(refused: EvaluationResult, model_dir: Path, tmp_path: Path) -> None:
    write_report(refused, manifest.read(model_dir), read_history(model_dir), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert refused.compressed is not None
    assert f"S{refused.compressed.sentence[1:]}" in page


def test_the_answers_that_are_kept_are_those_of_the_evaluated_model(
    model_dir: Path, smaller_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    smaller = SmallerModel(smaller_dir, 0.99, 2.0)
    evaluate_model(model_dir, dataset_dir, PLAIN, tmp_path / "predictions.parquet", smaller=smaller)
    kept = Predictions.read(tmp_path / "predictions.parquet")
    assert kept.model_digest == manifest.read(smaller_dir).digest


def test_both_models_count_as_challengers_of_the_champion_the_smaller_one_first(
    model_dir: Path, smaller_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    served_now = shutil.copytree(model_dir, tmp_path / "champion")
    written = manifest.read(served_now)
    manifest.write(served_now, replace(written, versions={"another": "model"}))
    champion = Champion(manifest.read(served_now).digest, str(served_now))
    for max_loss, number in ((0.99, 1), (0.001, 2), (0.99, 1)):
        smaller = SmallerModel(smaller_dir, max_loss, 2.0)
        result = evaluate_model(model_dir, dataset_dir, champion=champion, smaller=smaller)
        assert result.comparison is not None
        assert result.comparison.challenge == number
    counted = [path.name for path in (tmp_path / "champion.challenges").glob("*/*/*")]
    assert {*counted} == {manifest.read(folder).digest for folder in (model_dir, smaller_dir)}


def test_a_smaller_model_need_not_be_better_than_the_full_one_where_that_is_what_is_served(
    served: EvaluationResult, refused: EvaluationResult, model_dir: Path, smaller_dir: Path, dataset_dir: Path
) -> None:
    champion = Champion(manifest.read(model_dir).digest, str(model_dir))
    rules = GateSettings(0.0, beat_majority=False)
    smaller = SmallerModel(smaller_dir, 0.99, 2.1)
    result = evaluate_model(model_dir, dataset_dir, champion=champion, smaller=smaller)
    assert result.comparison is not None
    assert (result.comparison.p_value > 0.5, result.comparison.challenge) == (True, 1)
    verdict = judge(result, rules, champion)
    assert verdict.approved
    assert (
        "is the full model, of which this is a smaller one that is shown to lose less than"
        in verdict.reasons[1]
    )
    assert judge(refused, rules, champion).approved  # the very model that serves
    another = Champion("0" * 64, str(model_dir))
    unlike = replace(result, comparison=replace(result.comparison, champion_digest=another.digest))
    assert not judge(unlike, rules, another).approved


def test_a_smaller_model_of_another_dataset_is_refused(
    model_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    other = SmallerModel(tiny.write_classifier(tmp_path / "other"), 0.99, 2.0)
    with pytest.raises(InputError, match="the model was trained on 0000"):
        evaluate_model(model_dir, dataset_dir, smaller=other)


def test_the_evaluated_folder_is_found_by_its_digest(
    model_dir: Path, smaller_dir: Path, tmp_path: Path
) -> None:
    smaller, full = (manifest.read(folder).digest for folder in (smaller_dir, model_dir))
    assert manifest.folder_with(smaller, [model_dir, smaller_dir]) == smaller_dir
    assert manifest.folder_with(full, [model_dir, smaller_dir]) == model_dir
    (tmp_path / manifest.NO_MODEL_NAME).write_text("{}")
    assert manifest.folder_with(full, [model_dir, tmp_path]) == model_dir
