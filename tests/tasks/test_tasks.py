"""Several labels a text, and numbers, all the way: dataset, training, evaluation, gate, and served over sockets."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from kserve import InferInput, InferRequest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from miniml.champion.record import Champion
from miniml.data import preparation, prepared
from miniml.deployment import smoke_test
from miniml.errors import ChampionError, DeploymentError, InputError
from miniml.evaluation.comparison import compare_errors
from miniml.evaluation.evaluate import evaluate_model
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.report import write_report
from miniml.evaluation.result import EvaluationResult
from miniml.gate.rules import judge
from miniml.model import manifest, probes
from miniml.model.classifier import Classifier, PredictionT
from miniml.model.heads import Logits
from miniml.model.history import read_history
from miniml.model.manifest import read
from miniml.search.picking import pick
from miniml.search.trial import fine_tune_trial
from miniml.settings.data import DataSettings
from miniml.settings.evaluation import EvaluationSettings
from miniml.settings.gate import GateSettings
from miniml.settings.search import SearchSettings
from miniml.settings.training import TrainingSettings
from miniml.tasks import MultiLabelPrediction, RegressionPrediction, Task
from miniml.tasks.multi_label import MULTI_LABEL
from miniml.tasks.multi_label.head import MultiLabelHead
from miniml.tasks.regression import REGRESSION
from miniml.tasks.regression.head import RegressionHead
from miniml.training import report
from miniml.training.fine_tune import fine_tune
from serving.inference import Inference
from tests import patience, tiny
from tests.browser import Browser
from tests.command import pipeline
from tests.conftest import TRAINING
from tests.predictor import NAME, Server, error_of, infer_message, running

TEXTS = ["the food was great and tasty", "we loved the food and hated the rude staff", "it was the place"]
# The tiny encoder has no features to fit a head to; whether it learns from such a start depends on the rounding.
LEARNING = {**TRAINING, "iterations": 120, "learning_rate": 5e-3, "linear_probe": False}
COLUMNS: dict[Task, dict[str, str]] = {
    MULTI_LABEL: {"label_column": "tags", "label_separator": "|"},
    REGRESSION: {"label_column": "score"},
}


@dataclass(frozen=True)
class Job:
    """What the stages leave."""

    source: Path
    dataset_dir: Path
    model_dir: Path
    predictions: Path
    result: EvaluationResult

    @property
    def classifier(self) -> Classifier:
        return Classifier.load(self.model_dir)

    def predict(self, texts: list[str], prediction_type: type[PredictionT]) -> list[PredictionT]:
        return Classifier.load(self.model_dir, prediction_type).predict(texts)


def run(task: Task, folder: Path, encoder: Path, **settings: Any) -> Job:
    write = tiny.write_tagged if task == MULTI_LABEL else tiny.write_scored
    source = write(folder / "reviews.csv")
    preparation.prepare(DataSettings(dataset_id=str(source), **COLUMNS[task]), folder / "dataset")  # type: ignore[arg-type]
    fine_tune(
        folder / "dataset",
        folder / "model",
        TrainingSettings(**{"model_id": str(encoder), **LEARNING, **settings}),
    )
    path = folder / "predictions.parquet"
    looked = EvaluationSettings(min_slice_rows=10)
    result = evaluate_model(folder / "model", folder / "dataset", looked, path)
    return Job(source, folder / "dataset", folder / "model", path, result)


@pytest.fixture(scope="module")
def tagged(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return run(MULTI_LABEL, tmp_path_factory.mktemp("tagged"), encoder)


@pytest.fixture(scope="module")
def scored(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return run(REGRESSION, tmp_path_factory.mktemp("scored"), encoder)


@pytest.fixture(params=["tagged", "scored"])
def job(request: pytest.FixtureRequest) -> Job:
    found: Job = request.getfixturevalue(request.param)
    return found


# Training, and the model


def test_both_learn_and_the_folder_says_what_they_do(tagged: Job, scored: Job) -> None:
    assert read(tagged.model_dir).metrics["validation_subset_accuracy"] >= 0.9
    assert read(tagged.model_dir).metrics.keys() >= {"validation_micro_f1", "validation_macro_f1"}
    assert read(scored.model_dir).metrics["validation_r2"] >= 0.8
    assert read(scored.model_dir).metrics["validation_mean_absolute_error"] <= 0.4
    for job, task in ((tagged, MULTI_LABEL), (scored, REGRESSION)):
        config = json.loads((job.model_dir / "config.json").read_text())
        assert (config["problem_type"], read(job.model_dir).data["task"]) == (task, task)
    assert (tagged.model_dir / "calibration.json").is_file()
    assert not (scored.model_dir / "calibration.json").exists()


def test_answers_are_what_transformers_makes_of_the_folder(job: Job) -> None:
    classifier = job.classifier
    tokenizer = AutoTokenizer.from_pretrained(job.model_dir)
    model = AutoModelForSequenceClassification.from_pretrained(job.model_dir, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(**tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")).logits
    if isinstance(classifier.head, RegressionHead):
        labels = np.array(prepared.load(job.dataset_dir)[0]["train"]["label"])
        expected = logits.numpy() * labels.std() + labels.mean()
    else:
        expected = torch.sigmoid(logits / classifier.temperature).numpy()
    assert classifier.predict_probabilities(TEXTS) == pytest.approx(expected, abs=1e-4)


def test_a_model_whose_predictions_are_of_another_class_is_refused_when_it_is_loaded(scored: Job) -> None:
    told = r"does regression: it predicts RegressionPrediction, not MultiLabelPrediction\. Ask for RegressionPred"
    with pytest.raises(InputError, match=told):
        Classifier.load(scored.model_dir, MultiLabelPrediction)


def test_a_text_gets_every_label_that_it_deserves_and_none_where_it_deserves_none(tagged: Job) -> None:
    praise, both, neither = tagged.predict(TEXTS, MultiLabelPrediction)
    assert (praise.labels, both.labels, neither.labels) == (["praise"], ["complaint", "praise"], [])
    assert list(praise.probabilities) == ["complaint", "praise"]
    assert praise.probabilities["complaint"] < 0.5 <= praise.probabilities["praise"]


def test_a_number_is_in_the_unit_of_its_labels_whatever_that_is(
    scored: Job, encoder: Path, tmp_path: Path
) -> None:
    values = [prediction.value for prediction in scored.predict(TEXTS, RegressionPrediction)]
    assert values[0] > values[2] > 4
    splits, _ = prepared.load(scored.dataset_dir)
    rows = [
        (text, 1e6 * label)
        for split in splits.values()
        for text, label in zip(split["text"], split["label"], strict=True)
    ]
    (tmp_path / "large.jsonl").write_text(
        "".join(json.dumps({"text": t, "label": v}) + "\n" for t, v in rows)
    )
    settings = DataSettings(dataset_id=str(tmp_path / "large.jsonl"), task=REGRESSION)
    preparation.prepare(settings, tmp_path / "data")
    fine_tune(tmp_path / "data", tmp_path / "model", TrainingSettings(model_id=str(encoder), **LEARNING))
    assert evaluate_model(tmp_path / "model", tmp_path / "data").figures["r2"].value > 0.8


def test_card_and_training_report_say_what_the_model_does(tagged: Job, scored: Job, tmp_path: Path) -> None:
    cards, pages = {}, {}
    for job in (tagged, scored):
        cards[job.result.task] = (job.model_dir / "README.md").read_text()
        path = tmp_path / "training_report.html"
        report.write_report(read(job.model_dir), read_history(job.model_dir), path)
        pages[job.result.task] = path.read_text()
    for words in (
        "any of 2 labels, or none: complaint, praise",
        "| label | train |",
        "each may have several",
    ):
        assert words in cards[MULTI_LABEL]
        assert words not in cards[REGRESSION]
    for words in ("gives a text a number", "between 3.5 and 6.5", "gives every text a number"):
        assert words in cards[REGRESSION]
    assert "temperature" not in cards[REGRESSION]
    assert "subset accuracy" in pages[MULTI_LABEL] and "<th>label</th>" in pages[MULTI_LABEL]
    assert "mean absolute error" in pages[REGRESSION] and "<th>class</th>" not in pages[REGRESSION]


def test_the_cards_examples_work_as_they_stand(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(job.model_dir)
    blocks = re.findall(r"```python\n(.*?)```", (job.model_dir / "README.md").read_text(), re.DOTALL)
    plain: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    for block, ran in zip(blocks, (plain, ours), strict=True):
        exec(block, ran)  # it is what the card tells people to run
    config = json.loads(Path("config.json").read_text())
    if job.result.task == REGRESSION:
        values = [one["score"] * config["label_deviation"] + config["label_mean"] for one in plain["answers"]]
        assert values == pytest.approx([one.value for one in ours["answers"]], abs=1e-4)
    else:
        assert [{one["label"] for one in row} for row in plain["answers"]] == [{"complaint", "praise"}] * 2
        assert [list(one.probabilities) for one in ours["answers"]] == [["complaint", "praise"]] * 2


def test_a_search_picks_by_what_the_task_has_for_accuracy(job: Job, encoder: Path, tmp_path: Path) -> None:
    settings = SearchSettings('{"iterations": [2, 120]}', "grid")
    folders = [tmp_path / f"trial-{number}" for number in (1, 2)]
    base = TrainingSettings(**{"model_id": str(encoder), **LEARNING})
    for folder, trial_arguments in zip(folders, settings.plan(), strict=True):
        fine_tune_trial(job.dataset_dir, folder, base, json.dumps(trial_arguments))
    found = pick(folders, settings, tmp_path / "model", tmp_path / "search.html")
    assert (found.winner.number, found.picked_by) == (2, job.result.task.primary_metric)
    assert (found.uncertainty is None) == (job.result.task == REGRESSION)
    assert (
        f"validation {job.result.task.primary_metric.replace('_', ' ')} of"
        in (tmp_path / "search.html").read_text()
    )
    by_f1 = pick(folders, replace(settings, pick_by="macro_f1"), tmp_path / "other", tmp_path / "search.html")
    assert by_f1.picked_by == ("loss" if job.result.task == REGRESSION else "macro_f1")


def test_balanced_labels_are_given_more_often(tagged: Job, encoder: Path, tmp_path: Path) -> None:
    texts = [tiny.review(0, number) for number in range(320)]
    labels = [["rare"] * (number % 8 == 0) + ["common"] * (number % 2) for number in range(320)]
    lines = [json.dumps({"text": text, "label": given}) for text, given in zip(texts, labels, strict=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    settings = DataSettings(dataset_id=str(tmp_path / "rows.jsonl"), near_duplicates="off")
    preparation.prepare(settings, tmp_path / "data")
    shares = []
    for weights in ("none", "balanced"):
        wanted = TrainingSettings(model_id=str(encoder), **LEARNING, class_weights=weights, best_by="last")
        fine_tune(tmp_path / "data", tmp_path / weights, wanted)
        classifier = Classifier.load(tmp_path / weights)
        logits = classifier.logits(classifier.encode(texts))
        place = classifier.labels.index("rare")
        shares.append(float((1 / (1 + np.exp(-logits[:, place]))).mean()))
    assert shares[0] < 0.25
    assert 0.3 < shares[1] < 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weights": "balanced"}, "class_weights is 'balanced', but the labels are numbers"),
        ({"label_smoothing": 0.1}, "label_smoothing is 0.1, but the labels are numbers"),
        ({"best_by": "macro_f1"}, "Set it to accuracy or loss or last"),
    ],
)
def test_numbers_have_no_classes_to_weigh(
    settings: dict[str, Any], message: str, scored: Job, encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        fine_tune(
            scored.dataset_dir,
            tmp_path / "model",
            TrainingSettings(model_id=str(encoder), **LEARNING, **settings),
        )
    assert message in str(refused.value)


def test_engines_are_compared_on_texts_near_the_threshold_and_on_large_numbers(
    tagged: Job, scored: Job
) -> None:
    for job in (tagged, scored):
        classifier = job.classifier
        rows = list(prepared.load(job.dataset_dir)[0]["validation"]["text"])
        margins = sorted(classifier.head.margin(row) for row in classifier.logits(classifier.encode(rows)))
        kept = [classifier.head.margin(row) for row in classifier.logits(probes.read(job.model_dir))]
        assert kept == pytest.approx(margins[: probes.PROBES], abs=1e-5)


def test_every_engine_of_this_machine_agrees_or_is_refused(job: Job) -> None:
    inference = Inference(job.classifier)
    choice = inference.start(job.model_dir)
    found = choice.classifier.predict_probabilities(TEXTS)
    expected = job.classifier.predict_probabilities(TEXTS)
    assert np.abs(found - expected).max() <= 0.05


def test_how_far_engines_disagree_is_told_in_what_is_served() -> None:
    several, number = MultiLabelHead(("a", "b")), RegressionHead(mean=5, deviation=2)
    exact = np.zeros((3, 2), dtype=np.float32)
    off = np.array([[0.1, 0]] * 3, dtype=np.float32)
    half: Logits = off / np.float32(2)
    worst = np.abs(several.outputs(half) - several.outputs(-half)).max()
    assert several.disagreement(off, exact) == pytest.approx(worst, abs=1e-6)
    assert number.disagreement(off[:, :1], exact[:, :1]) == pytest.approx(0.1)
    assert math.isnan(number.disagreement(exact[:, :1] * np.float32(np.nan), exact[:, :1]))


# Evaluation


def test_the_figures_are_those_that_one_counts_by_hand(tagged: Job, scored: Job) -> None:
    rows = prepared.load(tagged.dataset_dir, ("test",))[0]["test"]
    names = tagged.classifier.labels
    answers = tagged.predict(list(rows["text"]), MultiLabelPrediction)
    right = [
        answer.labels == [names[n] for n in given]
        for answer, given in zip(answers, rows["label"], strict=True)
    ]
    result = tagged.result
    assert result.figures["subset_accuracy"].value == result.headline.value == np.mean(right)
    assert (
        set(result.figures)
        == set(result.baseline)
        == {"subset_accuracy", "hamming_loss", "micro_f1", "macro_f1"}
    )
    assert [scores.label for scores in result.classes] == ["complaint", "praise"]
    assert result.majority_share == pytest.approx(1 / 3, abs=0.05)

    rows = prepared.load(scored.dataset_dir, ("test",))[0]["test"]
    found = np.array([answer.value for answer in scored.predict(list(rows["text"]), RegressionPrediction)])
    errors = np.abs(found - np.array(rows["label"]))
    result = scored.result
    assert result.headline.value == pytest.approx(errors.mean(), abs=1e-5)
    assert set(result.figures) == set(result.baseline) == {
        "mean_absolute_error", "root_mean_squared_error", "r2", "spearman",
    }  # fmt: skip
    assert (result.classes, result.confusion_matrix, result.majority_share) == ([], [], None)
    assert result.baseline_comparison
    gain = result.baseline["mean_absolute_error"].value - result.headline.value
    assert result.baseline_comparison.gain.value == pytest.approx(gain, abs=1e-5)
    assert "ridge regression" in result.baseline_name


def test_results_and_predictions_survive_the_disk(job: Job, tmp_path: Path) -> None:
    job.result.save(tmp_path / "metrics")
    assert EvaluationResult.read(tmp_path / "metrics") == job.result
    json.loads((tmp_path / "metrics").read_text(), parse_constant=lambda name: pytest.fail(name))
    predictions = Predictions.read(job.predictions)
    predictions.save(tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == job.predictions.read_bytes()
    assert predictions.task == job.result.task
    np.testing.assert_allclose(
        predictions.probabilities, job.classifier.predict_probabilities(predictions.texts), atol=1e-5
    )
    everything = np.ones(len(predictions.texts), dtype=bool)
    assert predictions.primary_metric(everything)[0] == pytest.approx(job.result.headline.value, abs=1e-5)


def test_other_readers_see_lists_of_names_and_numbers(tagged: Job, scored: Job) -> None:
    row = next(row for row in parquet.read_table(tagged.predictions).to_pylist() if len(row["label"]) == 2)
    assert row["label"] == ["complaint", "praise"]
    assert set(row["predicted"]) <= {"complaint", "praise"}
    row = parquet.read_table(scored.predictions).to_pylist()[0]
    assert isinstance(row["label"], float) and abs(row["predicted"] - row["label"]) < 2
    assert "probabilities" not in row
    with pytest.raises(InputError, match="are numbers, of which none is right"):
        _ = Predictions.read(scored.predictions).correct


def test_slices_are_judged_by_the_measure_and_the_worst_comes_first(tagged: Job, scored: Job) -> None:
    by_label = {
        part.value for part in (*tagged.result.slices, *tagged.result.small_slices) if part.column == "label"
    }
    assert by_label == {"complaint", "praise", "(no label)"}
    errors = [part.figure.value for part in scored.result.slices]
    assert errors == sorted(errors, reverse=True)
    assert any(part.column == "label" and " to " in part.value for part in scored.result.slices)
    for part in scored.result.slices:
        assert 0 <= part.figure.low <= part.figure.value <= part.figure.high


def test_the_largest_errors_come_first_and_their_words_say_why(scored: Job) -> None:
    off = [mistake.score for mistake in scored.result.mistakes]
    assert off == sorted(off, reverse=True)
    texts = prepared.load(scored.dataset_dir, ("test",))[0]["test"]["text"]
    for mistake in scored.result.mistakes:
        assert "".join(piece.text for piece in mistake.pieces) == texts[mistake.row]
        (whole,) = scored.predict([texts[mistake.row]], RegressionPrediction)
        scored_pieces = [piece for piece in mistake.pieces if piece.effect is not None]
        for piece in scored_pieces:
            assert piece.score_without is not None
            assert piece.effect == pytest.approx(whole.value - piece.score_without, abs=1e-4)


def test_a_wrong_label_and_a_missing_one_are_mistakes(tagged: Job, tmp_path: Path, encoder: Path) -> None:
    barely = run(MULTI_LABEL, tmp_path, encoder, iterations=2)
    assert barely.result.mistakes
    surest = [mistake.score for mistake in barely.result.mistakes]
    assert surest == sorted(surest, reverse=True)
    for mistake in barely.result.mistakes:
        denied = mistake.predicted.startswith("not ")
        assert (mistake.predicted.removeprefix("not ") in mistake.label) == denied
        assert mistake.score >= 0.5
        for piece in mistake.pieces:
            if piece.effect and piece.score_without is not None:
                assert (piece.effect > 0) == (piece.score_without < mistake.score)


def test_the_report_shows_what_there_is_and_nothing_else(tagged: Job, scored: Job, tmp_path: Path) -> None:
    pages = {}
    for name, job in {"tagged": tagged, "scored": scored}.items():
        path = tmp_path / f"{name}.html"
        write_report(job.result, read(job.model_dir), read_history(job.model_dir), path)
        pages[name] = path.read_text()
    for words in ("subset accuracy", "Label by label", "ROC curve", "giving the most frequent labels"):
        assert words in pages["tagged"]
        assert words not in pages["scored"]
    for words in (
        "mean absolute error",
        "Predicted against true",
        "Its largest errors",
        "in the labels&#39; unit",
    ):
        assert words in pages["scored"]
        assert words not in pages["tagged"]
    for page in pages.values():
        assert "Confusion matrix" not in page
        assert "Training curve" in page


@pytest.mark.parametrize("ordered", ["yes"])
def test_labels_and_numbers_are_no_ordered_classes(job: Job, ordered: Literal["yes"]) -> None:
    with pytest.raises(InputError, match="ordered_labels is 'yes', but the model does"):
        evaluate_model(job.model_dir, job.dataset_dir, EvaluationSettings(ordered_labels=ordered))


# The gate


def test_several_labels_are_judged_by_subset_accuracy_and_any_figure(tagged: Job) -> None:
    assert judge(tagged.result, GateSettings(0.8, "micro_f1=0.8, macro_f1=0.8")).approved
    verdict = judge(replace(tagged.result, slices=[]), GateSettings(0.8, min_slice_accuracy=0.5))
    assert not verdict.approved
    worse = replace(tagged.result.headline, value=0.79)
    figures = {**tagged.result.figures, "subset_accuracy": worse}
    verdict = judge(replace(tagged.result, figures=figures), GateSettings(0.8))
    assert "subset_accuracy 0.7900" in verdict.reasons[0] and "below min_accuracy 0.8" in verdict.reasons[0]
    with pytest.raises(InputError, match="of that less is better"):
        judge(tagged.result, GateSettings(0.8, "hamming_loss=0.1"))


def test_numbers_have_no_accuracy_and_the_gate_says_so_and_asks_for_something_else(scored: Job) -> None:
    verdict = judge(scored.result, GateSettings(0.0))
    assert not verdict.approved
    assert verdict.reasons[0].startswith(
        "accuracy cannot be judged by min_accuracy 0: numbers have none. Say what"
    )
    verdict = judge(scored.result, GateSettings(0.99, "r2=0.5, spearman=0.5", beat_baseline=True))
    assert verdict.approved, verdict.reasons
    assert any("min_accuracy does not apply" in reason for reason in verdict.reasons)
    assert any("mean absolute error" in reason for reason in verdict.reasons)
    assert not judge(scored.result, GateSettings(min_metrics="r2=0.9999")).approved
    assert not judge(scored.result, GateSettings(min_metrics="r2=0.1", min_slice_accuracy=0.1)).approved
    with pytest.raises(InputError, match="of that less is better"):
        judge(scored.result, GateSettings(min_metrics="mean_absolute_error=0.1"))


def as_champion(job: Job) -> Champion:
    return Champion(manifest.read(job.model_dir).digest, str(job.model_dir), job.result.data_fingerprint)


@pytest.mark.parametrize(("task", "rules"), [(MULTI_LABEL, ""), (REGRESSION, "r2=0.5")])
def test_the_champion_answers_the_same_rows_and_must_be_beaten(
    task: Task, rules: str, request: pytest.FixtureRequest, encoder: Path, tmp_path: Path
) -> None:
    good: Job = request.getfixturevalue("tagged" if task == MULTI_LABEL else "scored")
    poor = run(task, tmp_path, encoder, iterations=2)
    champion = as_champion(poor)
    better = evaluate_model(good.model_dir, good.dataset_dir, champion=champion)
    assert better.comparison and better.comparison.measure == task.primary_metric
    assert better.comparison.champion_figure == pytest.approx(poor.result.headline.value, abs=1e-5)
    settings = GateSettings(0.1, rules, min_gain=0.1)
    assert judge(better, settings, champion).approved
    worse = evaluate_model(poor.model_dir, poor.dataset_dir, champion=as_champion(good))
    verdict = judge(worse, GateSettings(0.0, "r2=-9" if rules else ""), as_champion(good))
    assert not verdict.approved
    assert task.primary_metric.replace("_", " ") in verdict.reasons[0]


def test_a_gain_of_numbers_is_a_share_of_the_champions_error(scored: Job) -> None:
    comparison = compare_errors(np.full(200, 0.9), np.full(200, 1.0), "c" * 64)
    result, champion = (
        replace(scored.result, comparison=comparison),
        Champion("c" * 64, "s3://models/old", "f" * 64),
    )
    assert judge(result, GateSettings(min_metrics="r2=0.1", min_gain=0.099), champion).approved
    verdict = judge(result, GateSettings(min_metrics="r2=0.1", min_gain=0.11), champion)
    assert "the gain is below min_gain 0.11 of its error" in verdict.reasons[0]


def test_a_champion_of_another_task_is_no_match(tagged: Job, scored: Job) -> None:
    with pytest.raises(ChampionError, match=r"does regression, the new model multi_label_.*champion=none"):
        evaluate_model(tagged.model_dir, tagged.dataset_dir, champion=as_champion(scored))


def test_of_models_of_equal_worth_few_look_better_and_a_better_one_mostly_does() -> None:
    draw = np.random.default_rng(1)
    by_chance, by_merit = [], []
    for _ in range(100):
        shared = draw.exponential(1.0, 120)
        one, other = (shared + draw.exponential(0.5, 120) for _ in range(2))
        by_chance.append(compare_errors(one, other, "").p_value <= 0.05)
        by_merit.append(compare_errors(0.8 * one, other, "").p_value <= 0.05)
    assert np.mean(by_chance) <= 0.1
    assert np.mean(by_merit) >= 0.9
    same = compare_errors(shared, shared, "")
    assert (same.gain.value, same.p_value, same.only_challenger, same.only_champion) == (0.0, 1.0, 0, 0)


# Serving


@pytest.fixture(scope="module")
def tagging(tagged: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tagged.model_dir, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server


@pytest.fixture(scope="module")
def scoring(scored: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(scored.model_dir, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server


@pytest.fixture(params=["tagged", "scored"])
def served(request: pytest.FixtureRequest) -> tuple[Job, Server]:
    names = {"tagged": "tagging", "scored": "scoring"}
    return request.getfixturevalue(request.param), request.getfixturevalue(names[request.param])


def test_v1_and_predict_answer_with_labels_or_a_value(
    tagged: Job, tagging: Server, scored: Job, scoring: Server
) -> None:
    answers = tagging.v1(TEXTS).json()["predictions"]
    assert [answer["labels"] for answer in answers] == [["praise"], ["complaint", "praise"], []]
    for answer, expected in zip(answers, tagged.predict(TEXTS, MultiLabelPrediction), strict=True):
        assert list(answer) == ["labels", "probabilities"]
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    values = [answer["value"] for answer in scoring.v1(TEXTS).json()["predictions"]]
    assert values == pytest.approx(
        [one.value for one in scored.predict(TEXTS, RegressionPrediction)], abs=1e-3
    )
    assert tagging.post("/predict", {"text": TEXTS[1]}).json()["labels"] == answers[1]["labels"]
    assert scoring.post("/predict", {"text": TEXTS[1]}).json() == {"value": pytest.approx(values[1])}


def test_v2_answers_in_tensors_over_rest_and_grpc(tagged: Job, tagging: Server, scoring: Server) -> None:
    answer = tagging.v2(TEXTS, [3]).json()
    assert json.loads(answer["parameters"]["labels"]) == ["complaint", "praise"]
    selected, probabilities = answer["outputs"]
    assert (selected["name"], selected["datatype"], selected["shape"]) == ("selected", "BOOL", [3, 2])
    assert selected["data"] == [False, True, True, True, False, False]
    assert (probabilities["name"], probabilities["shape"]) == ("probabilities", [3, 2])
    assert probabilities["data"] == pytest.approx(
        tagged.classifier.predict_probabilities(TEXTS).ravel().tolist(), abs=1e-4
    )
    over_grpc = tagging.grpc.ModelInfer(infer_message(TEXTS))
    assert list(over_grpc.outputs[0].contents.bool_contents) == selected["data"]
    assert list(over_grpc.outputs[1].contents.fp32_contents) == pytest.approx(probabilities["data"])
    (value,) = scoring.v2(TEXTS, [3]).json()["outputs"]
    assert (value["name"], value["datatype"], value["shape"]) == ("value", "FP32", [3])
    over_grpc = scoring.grpc.ModelInfer(infer_message(TEXTS, raw=True))
    raw = np.frombuffer(over_grpc.raw_output_contents[0], np.float32)
    assert raw.tolist() == pytest.approx(value["data"])


def test_the_binary_form_of_kserves_own_client_works_too(tagging: Server) -> None:
    tensor = InferInput("text", [3], "BYTES")
    tensor.set_data_from_numpy(np.array(TEXTS, dtype=object), binary_data=True)
    request = InferRequest(NAME, [tensor], parameters={"binary_data_output": True})
    body, length = request.to_rest()
    import requests

    answer = requests.post(
        f"{tagging.url}/v2/models/{NAME}/infer",
        body,
        headers={"inference-header-content-length": str(length)},
        timeout=patience.SECONDS,
    )
    assert answer.ok, answer.text
    header = json.loads(answer.content[: int(answer.headers["inference-header-content-length"])])
    assert [output["name"] for output in header["outputs"]] == ["selected", "probabilities"]
    flags = answer.content[int(answer.headers["inference-header-content-length"]) :][:6]
    assert np.frombuffer(flags, np.bool_).tolist() == [False, True, True, True, False, False]


def test_metadata_tells_the_outputs_and_an_unknown_one_is_refused(tagging: Server, scoring: Server) -> None:
    outputs = tagging.get(f"/v2/models/{NAME}").json()["outputs"]
    assert [(one["name"], one["datatype"], one["shape"]) for one in outputs] == [
        ("selected", "BOOL", [-1, 2]),
        ("probabilities", "FP32", [-1, 2]),
    ]
    (value,) = scoring.get(f"/v2/models/{NAME}").json()["outputs"]
    assert (value["name"], value["datatype"], value["shape"]) == ("value", "FP32", [-1])
    refused = scoring.v2(TEXTS, [3], outputs=[{"name": "probabilities"}])
    assert error_of(refused, 400) == "outputs[0] does not exist. Ask for value."


def test_explanations_speak_of_the_surest_label_and_of_the_number(tagging: Server, scoring: Server) -> None:
    explanation = tagging.post("/explain", {"text": TEXTS[0]}).json()
    assert (explanation["labels"], explanation["explained"], explanation["method"]) == (
        ["praise"],
        "praise",
        "occlusion",
    )
    explanation = scoring.post("/explain", {"text": TEXTS[0]}).json()
    assert "".join(piece["text"] for piece in explanation["pieces"]) == TEXTS[0]
    effects = {
        piece["text"]: piece["effect"] for piece in explanation["pieces"] if piece["effect"] is not None
    }
    assert effects["great"] > 0 and effects["tasty"] > 0
    for piece in explanation["pieces"]:
        if piece["effect"] is not None:
            assert piece["effect"] == pytest.approx(explanation["value"] - piece["score_without"], abs=1e-4)


def test_every_example_of_the_document_works_and_is_answered_as_shown(served: tuple[Job, Server]) -> None:
    from tests.serving.test_openapi import (
        test_every_example_works_as_it_stands_and_is_answered_as_shown as holds,
    )

    holds(served[1])


def test_given_labels_are_counted_and_the_log_says_what_is_served(tagging: Server, scoring: Server) -> None:
    tagging.v1([TEXTS[1]])
    metrics = tagging.get("/metrics").text
    assert 'miniml_predicted_total{label="complaint"}' in metrics
    assert 'miniml_predicted_total{label="praise"}' in metrics
    assert "(labels: complaint, praise)" in tagging.log.read_text()
    assert "(a number for each text)" in scoring.log.read_text()


def test_deploy_holds_the_served_answers_against_the_evaluated_ones(served: tuple[Job, Server]) -> None:
    job, server = served
    service = {"metadata": {"name": NAME, "namespace": "models"}, "status": {"address": {"url": server.url}}}
    smoke_test.run_smoke_test(None, service, job.result, ())  # type: ignore[arg-type]  # asked at its own address
    other = [
        replace(sample, value=sample.value + 1)
        if sample.value is not None
        else replace(
            sample, probabilities={label: 1 - share for label, share in sample.probabilities.items()}
        )
        for sample in job.result.samples
    ]
    with pytest.raises(
        DeploymentError, match=r"not as the evaluated model did: a (number|probability) is off by"
    ):
        smoke_test.run_smoke_test(None, service, replace(job.result, samples=other), ())  # type: ignore[arg-type]


@pytest.mark.browser
def test_the_page_shows_labels_as_bars_and_a_number_as_such(
    tagging: Server, scoring: Server, browser: Browser
) -> None:
    explained = "!document.getElementById('explanation').hidden"
    for server, verb in ((tagging, "Label"), (scoring, "Rate")):
        browser.open(server.url)
        browser.wait_for("document.activeElement.id === 'text'")
        assert browser.text_of("button") == verb
        browser.type(TEXTS[1])
        browser.press("Enter", ctrl=True)
        browser.wait_for(explained)
        answer = server.post("/predict", {"text": TEXTS[1]}).json()
        if server is tagging:
            assert browser.text_of("#label") == "complaint, praise"
            assert browser.run("document.querySelectorAll('#bars .best').length") == 2
            assert "2 labels, of which a text may have several" in browser.text_of("header")
        else:
            assert float(browser.text_of("#label")) == pytest.approx(answer["value"], rel=1e-3)
            assert browser.run("document.getElementById('bars').hidden")
            assert "a larger number" in browser.text_of("#explanation")
            assert "%" not in browser.text_of("#explanation")
        assert browser.complaints() == []


# The pipeline


@pytest.mark.parametrize("name", ["tagged", "scored"])
def test_the_compiled_pipeline_runs_from_the_labels_to_the_served_answer(
    name: str, encoder: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source = request.getfixturevalue(name).source
    words = {"dataset-id": source, "model-id": encoder, "outputs": tmp_path, "ask": TEXTS[0]}
    words |= {key.replace("_", "-"): value for key, value in LEARNING.items() if value is not False}
    if name == "tagged":
        words |= {"label-column": "tags", "label-separator": "|", "min-accuracy": 0.8}
    else:
        words |= {"label-column": "score", "min-metrics": "r2=0.5"}
    ended = pipeline("run", "--no-linear-probe", *(f"--{key}={value}" for key, value in words.items()))
    assert ended.status == 0, ended.out + ended.err
    summary = json.loads((tmp_path / "latest" / "summary.json").read_text())
    assert summary["verdict"] == "approved", summary["reasons"]
    (answer,) = summary["predictions"]
    if name == "tagged":
        assert (summary["measure"], answer["labels"]) == ("subset_accuracy", ["praise"])
        assert "-> praise (complaint 0." in ended.out
        assert "subset accuracy" in ended.out
    else:
        assert summary["measure"] == "mean_absolute_error"
        assert answer["value"] > 5
        assert "mean absolute error" in ended.out
