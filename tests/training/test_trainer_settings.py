"""Each of the trainer's settings does what it says."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, Trainer

from miniml.data import preparation, prepared
from miniml.errors import InputError
from miniml.model.classifier import Classifier
from miniml.model.history import HISTORY_NAME
from miniml.processor import has_bf16, threads_within_quota
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.tasks import SingleLabelPrediction
from miniml.tasks.multi_label.training import BinaryCrossEntropy, balanced_positives
from miniml.tasks.single_label.head import SingleLabelHead
from miniml.tasks.single_label.training import CrossEntropy, balanced_weights, validation_metrics
from miniml.training import batches
from miniml.training.batches import LengthGrouped, passes
from miniml.training.fine_tune import TrainingResult, fine_tune
from miniml.training.objective import Objective
from miniml.training.trainer import OneDevice
from tests import tiny
from tests.command import ROOT
from tests.conftest import TRAINING

Weights = dict[str, torch.Tensor]


@pytest.fixture
def train(dataset_dir: Path, encoder: Path, tmp_path: Path) -> Any:
    """Trains the tiny encoder into a new folder, in float32 and from a random head, so that rounding hides nothing."""

    def trained(folder: str = "model", **settings: Any) -> TrainingResult:
        given = {"model_id": str(encoder), **TRAINING, "precision": "fp32", "linear_probe": False, **settings}
        return fine_tune(dataset_dir, tmp_path / folder, TrainingSettings(**given))

    return trained


def weights(folder: Path) -> Weights:
    return load_file(folder / "model.safetensors")


def points(folder: Path, name: str) -> list[float]:
    history = json.loads((folder / HISTORY_NAME).read_text())
    return [point[name] for point in history if name in point]


def differ(one: Weights, other: Weights) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_four_batches_of_4_come_to_what_one_of_16_does(train: Any, tmp_path: Path) -> None:
    train("one", iterations=6, batch_size=16, class_weights="balanced", label_smoothing=0.1)
    train(
        "four",
        iterations=6,
        batch_size=4,
        gradient_accumulation=4,
        class_weights="balanced",
        label_smoothing=0.1,
    )
    assert differ(weights(tmp_path / "one"), weights(tmp_path / "four")) < 1e-5


def test_a_step_comes_to_the_same_in_however_many_passes(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("whole", iterations=6)
    monkeypatch.setitem(batches.TOKENS_IN_PASS, "cpu", 40)
    train("parts", iterations=6)
    assert differ(weights(tmp_path / "whole"), weights(tmp_path / "parts")) < 1e-5


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_pass_has_texts_of_like_length_without_the_others_padding(side: str) -> None:
    lengths = [2, 9, 3, 8]
    mask = torch.tensor([[int(place < length) for place in range(9)] for length in lengths])
    mask = mask.flip(1) if side == "left" else mask
    batch = {"input_ids": mask * 7, "attention_mask": mask, "labels": torch.arange(4)}
    short, long = passes(batch, 18, side)
    assert (short["labels"].tolist(), short["input_ids"].shape) == ([0, 2], (2, 3))
    assert (long["labels"].tolist(), long["input_ids"].shape) == ([3, 1], (2, 9))
    assert short["attention_mask"].sum() == 5 and long["attention_mask"].sum() == 17
    assert passes(batch, 36, side) == [batch]


def test_the_order_follows_from_seed_and_epoch_and_keeps_like_lengths_together() -> None:
    lengths = np.random.default_rng(0).integers(5, 500, size=1003)

    def order(seed: int, epoch: int) -> list[int]:
        sampler = LengthGrouped(lengths, texts_in_step=10, seed=seed)
        sampler.epoch = epoch
        return list(sampler)

    first = order(1, 0)
    assert first == order(1, 0) and sorted(first) == list(range(1003))
    assert first != order(1, 1) != order(2, 1)
    steps = [lengths[first[begin : begin + 10]] for begin in range(0, 1000, 10)]
    assert np.mean([np.ptp(step) for step in steps]) < 40
    means = [step.mean() for step in steps]
    assert means != sorted(means)


def test_smoothing_leaves_doubt(train: Any, tmp_path: Path, dataset_dir: Path) -> None:
    texts = [tiny.review(number % 2, number) for number in range(40)]
    doubts = []
    for smoothing in (0.0, 0.4):
        train(str(smoothing), label_smoothing=smoothing)
        classifier = Classifier.load(tmp_path / str(smoothing))
        # Before the temperature, which would make up for it.
        doubts.append(np.ptp(classifier.logits(classifier.encode(texts)), axis=1).mean())
    assert doubts[1] < 0.7 * doubts[0]


def test_balanced_classes_count_alike(encoder: Path, tmp_path: Path) -> None:
    labels = np.array([0] * 30 + [1] * 10)
    balanced = balanced_weights(labels, 2)
    assert balanced.tolist() == pytest.approx([40 / 60, 40 / 20])
    objective = CrossEntropy(balanced)
    logits = torch.zeros(40, 2, requires_grad=True)
    objective.total(logits, torch.from_numpy(labels)).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    rare, common = logits.grad[30:].abs().sum(), logits.grad[:30].abs().sum()
    assert float(rare) == pytest.approx(float(common))


def loss_and_gradient(
    objective: Objective, logits: torch.Tensor, labels: torch.Tensor
) -> tuple[float, torch.Tensor]:
    asked = logits.clone().requires_grad_()
    loss = objective.total(asked, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert asked.grad is not None
    return loss.item(), asked.grad


def test_a_weighted_and_smoothed_loss_is_the_true_class_s_weight_times_the_smoothed_loss() -> None:
    logits = torch.randn(31, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0] * 20 + [1] * 10 + [2])
    weights, smoothing = balanced_weights(labels.numpy(), 3), 0.1
    of_text = weights[labels][:, None]
    smoothed = (1 - smoothing) * torch.eye(3)[labels] + smoothing / 3
    loss, gradient = loss_and_gradient(CrossEntropy(weights, smoothing), logits, labels)
    assert loss == pytest.approx(float(-(of_text * smoothed * logits.log_softmax(1)).sum()), rel=1e-5)
    assert gradient == pytest.approx(of_text * (logits.softmax(1) - smoothed), abs=1e-5)


def test_so_it_is_for_each_of_several_labels_by_whether_a_text_has_it() -> None:
    logits = torch.randn(31, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(31, 3)
    labels[:10, 0] = labels[0, 1] = 1
    labels[:, 2] = 1
    weights, smoothing = balanced_positives(labels.numpy()), 0.1
    # What all texts have has nothing to be balanced against.
    assert weights.tolist() == pytest.approx([2.1, 30, 1])
    of_label = torch.where(labels == 1, weights, 1)
    smoothed = (1 - smoothing) * labels + smoothing / 2
    loss, gradient = loss_and_gradient(BinaryCrossEntropy(weights, smoothing), logits, labels)
    found = logits.sigmoid()
    losses = -of_label * (smoothed * found.log() + (1 - smoothed) * (1 - found).log())
    assert loss == pytest.approx(float(losses.mean(dim=1).sum()), rel=1e-5)
    assert gradient == pytest.approx(of_label * (found - smoothed) / 3, abs=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_a_class_of_1_in_31_is_told_from_the_others_when_balanced_and_smoothed(
    several: bool, encoder: Path, tmp_path: Path
) -> None:
    rare = [number % 31 == 0 for number in range(31 * 16)]
    names = [["common", "rare"] if one else ["common"] for one in rare] if several else [int(o) for o in rare]
    texts = [tiny.review(int(one), number) for number, one in enumerate(rare)]
    source = tmp_path / "reviews.jsonl"
    lines = [json.dumps({"text": text, "label": name}) for text, name in zip(texts, names, strict=True)]
    source.write_text("\n".join(lines))
    preparation.prepare(DataSettings(dataset_id=str(source), near_duplicates="off"), tmp_path / "data")
    given: dict[str, Any] = {"class_weights": "balanced", "label_smoothing": 0.1, "best_by": "last"}
    settings = TrainingSettings(model_id=str(encoder), **{**TRAINING, **given, "linear_probe": False})
    fine_tune(tmp_path / "data", tmp_path / "model", settings)
    classifier = Classifier.load(tmp_path / "model")
    logits = classifier.logits(classifier.encode(texts))
    found = logits[:, 1] > (0 if several else logits[:, 0])
    assert np.mean(found == rare) > 0.95
    if several:
        assert (logits[:, 0] > 0).all()


def test_balanced_classes_find_more_of_a_rare_one(encoder: Path, tmp_path: Path) -> None:
    # All reviews read alike: what a model can know is how many there are of each class.
    rows = [(tiny.review(0, number), "bad" if number % 10 else "good") for number in range(400)]
    source = tmp_path / "reviews.jsonl"
    source.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    preparation.prepare(DataSettings(dataset_id=str(source), near_duplicates="off"), tmp_path / "data")
    shares = []
    for weighing in ("none", "balanced"):
        folder = tmp_path / weighing
        # A fitted head would know these reviews by heart, and not only how many there are.
        given = {**TRAINING, "linear_probe": False, "best_by": "last", "class_weights": weighing}
        settings = TrainingSettings(model_id=str(encoder), **given)
        fine_tune(tmp_path / "data", folder, settings)
        classifier = Classifier.load(folder)
        logits = classifier.logits(classifier.encode([text for text, _ in rows]))
        shares.append(torch.softmax(torch.from_numpy(logits), 1)[:, 1].mean())
    assert shares[0] < 0.2 and 0.35 < shares[1] < 0.65


@pytest.mark.parametrize(("schedule", "fallen"), [("linear", 0.5), ("cosine", 0.5), ("constant", 1.0)])
def test_the_learning_rate_rises_and_falls_as_scheduled(
    schedule: str, fallen: float, train: Any, tmp_path: Path
) -> None:
    train(iterations=50, schedule=schedule, warmup_share=0.2, learning_rate=1e-3)
    rates = np.array(points(tmp_path / "model", "learning_rate")) / 1e-3
    assert rates[:10] == pytest.approx(np.arange(10) / 10)
    assert rates[30] == pytest.approx(fallen)
    at_three_quarters = {"linear": 0.25, "cosine": (1 + np.cos(np.pi * 0.75)) / 2, "constant": 1.0}
    assert rates[40] == pytest.approx(at_three_quarters[schedule])


def test_without_a_warm_up_the_first_step_is_the_longest(train: Any, tmp_path: Path) -> None:
    train(iterations=4, warmup_share=0.0)
    assert points(tmp_path / "model", "learning_rate")[0] == TRAINING["learning_rate"]


def test_a_cut_gradient_and_a_shrunk_weight_are_others(train: Any, tmp_path: Path) -> None:
    train("plain", iterations=3, max_gradient_norm=0.0)
    train("cut", iterations=3, max_gradient_norm=1e-9)
    train("shrunk", iterations=3, max_gradient_norm=0.0, weight_decay=50.0)
    plain, cut, shrunk = (weights(tmp_path / name) for name in ("plain", "cut", "shrunk"))
    assert differ(plain, cut) > 1e-4
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert shrunk[name].norm() < 0.9 * plain[name].norm()


def test_validation_is_looked_at_evenly_and_after_the_last_step(train: Any, tmp_path: Path) -> None:
    train(iterations=10, evaluations=4)
    history = json.loads((tmp_path / "model" / HISTORY_NAME).read_text())
    looked = [point for point in history if "eval_accuracy" in point]
    assert [point["step"] for point in looked] == [2, 5, 8, 10]
    assert {"eval_loss", "eval_accuracy", "eval_macro_f1"} <= looked[0].keys()


def test_validation_figures_are_those_that_anyone_would_compute(
    train: Any, tmp_path: Path, dataset_dir: Path
) -> None:
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    result = train(iterations=20, class_weights="balanced", label_smoothing=0.2)
    rows = prepared.load(dataset_dir, ("validation",))[0]["validation"]
    classifier = Classifier.load(tmp_path / "model")
    logits = classifier.logits(classifier.encode(rows["text"]))
    shares, found = torch.softmax(torch.from_numpy(logits), 1).numpy(), logits.argmax(axis=1)
    assert result.metrics["validation_accuracy"] == pytest.approx(accuracy_score(rows["label"], found))
    assert result.metrics["validation_macro_f1"] == pytest.approx(
        f1_score(rows["label"], found, average="macro")
    )
    assert result.metrics["validation_loss"] == pytest.approx(log_loss(rows["label"], shares), abs=0.02)


def test_macro_f1_means_the_classes_that_there_are() -> None:
    logits = np.eye(4)[[0, 0, 1, 1]]
    assert validation_metrics(logits, np.array([0, 0, 1, 0])) == pytest.approx(
        {"accuracy": 0.75, "macro_f1": (0.8 + 2 / 3) / 2}
    )


# It learns, and then goes so far with each step that it forgets everything.
RECKLESS: dict[str, Any] = {
    "schedule": "constant",
    "warmup_share": 1.0,
    "learning_rate": 0.06,
    "iterations": 90,
    "evaluations": 12,
}


@pytest.mark.parametrize(("by", "best"), [("accuracy", max), ("macro_f1", max), ("loss", min)])
def test_the_best_point_is_kept_and_not_the_last(
    by: str, best: Any, train: Any, dataset_dir: Path, tmp_path: Path
) -> None:
    kept = train("kept", best_by=by, **RECKLESS)
    looked = points(tmp_path / "kept", f"eval_{by}")
    assert kept.metrics[f"validation_{by}"] == best(looked) != looked[-1]
    assert kept.metrics["kept_step"] < kept.metrics["steps"] == 90
    assert share_right(tmp_path / "kept", dataset_dir) == kept.metrics["validation_accuracy"] > 0.8


def test_the_last_point_is_kept_where_that_is_asked_for(
    train: Any, dataset_dir: Path, tmp_path: Path
) -> None:
    last = train("last", best_by="last", **RECKLESS)
    assert last.metrics["kept_step"] == 90
    assert last.metrics["validation_loss"] == points(tmp_path / "last", "eval_loss")[-1]
    assert share_right(tmp_path / "last", dataset_dir) == 0.5


def share_right(folder: Path, dataset_dir: Path) -> float:
    """Of the validation rows, by the saved model."""
    rows = prepared.load(dataset_dir, ("validation",))[0]["validation"]
    answers = Classifier.load(folder, SingleLabelPrediction).predict(list(rows["text"]))
    right = [
        answer.label == ("bad", "good")[label] for answer, label in zip(answers, rows["label"], strict=True)
    ]
    return float(np.mean(right))


def test_a_training_that_gets_no_better_stops(
    train: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(iterations=400, evaluations=40, early_stopping=3, best_by="macro_f1")
    looked = points(tmp_path / "model", "eval_macro_f1")
    assert result.metrics["steps"] == 10 * len(looked) < 400
    assert max(looked[:-3]) >= max(looked[-3:])
    assert result.metrics["validation_macro_f1"] == max(looked)
    assert "validation macro_f1 has not got better since step" in capsys.readouterr().out


def test_a_frozen_encoder_stays_and_its_new_head_learns(train: Any, encoder: Path, tmp_path: Path) -> None:
    train(iterations=3, frozen_layers=-1)
    before, after = weights(encoder), weights(tmp_path / "model")
    assert all(torch.equal(value, after[f"bert.{name}"]) for name, value in before.items())
    train("other", iterations=9, frozen_layers=-1)
    assert not torch.equal(after["classifier.weight"], weights(tmp_path / "other")["classifier.weight"])


def test_what_the_pretrained_folder_lacks_learns_even_in_a_frozen_encoder(
    train: Any, encoder: Path, tmp_path: Path
) -> None:
    shutil.copytree(encoder, tmp_path / "encoder")
    rest = {name: value for name, value in weights(encoder).items() if not name.startswith("pooler")}
    save_file(rest, tmp_path / "encoder" / "model.safetensors", metadata={"format": "pt"})
    for iterations in (1, 9):
        train(str(iterations), model_id=str(tmp_path / "encoder"), iterations=iterations, frozen_layers=-1)
    one, nine = weights(tmp_path / "1"), weights(tmp_path / "9")
    changed = {name for name in one if not torch.equal(one[name], nine[name])}
    assert changed == {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }


def test_lora_changes_every_linear_layer_by_few_ranks_and_leaves_a_plain_model(
    train: Any, encoder: Path, tmp_path: Path
) -> None:
    train(lora_rank=2)
    before, after = weights(encoder), weights(tmp_path / "model")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert after.keys() == {name for name, _ in model.named_parameters()}
    assert not list((tmp_path / "model").glob("adapter*"))
    for name, value in before.items():
        change = after[f"bert.{name}"] - value
        is_linear = value.ndim == 2 and "embeddings" not in name
        assert (
            torch.linalg.matrix_rank(change, rtol=1e-3) == (2 if is_linear else 0)
            if value.ndim == 2
            else not change.any()
        )
    answers = Classifier.load(tmp_path / "model", SingleLabelPrediction).predict(
        ["the food was great and tasty", "awful rude staff and cold food"]
    )
    assert [answer.label for answer in answers] == ["good", "bad"]


def test_the_best_point_of_lora_is_kept(train: Any, tmp_path: Path) -> None:
    result = train(lora_rank=4, best_by="loss", **RECKLESS)
    assert result.metrics["kept_step"] < 90
    assert result.metrics["validation_loss"] == min(points(tmp_path / "model", "eval_loss"))


def test_an_architecture_alone_is_enough_to_begin_with(train: Any, encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder, tmp_path / "encoder")
    (tmp_path / "encoder" / "model.safetensors").unlink()
    for folder in ("one", "two"):
        train(folder, model_id=str(tmp_path / "encoder"), from_scratch=True, iterations=2)
    train("other", model_id=str(tmp_path / "encoder"), from_scratch=True, iterations=2, seed=7)
    one, two, other = (weights(tmp_path / name) for name in ("one", "two", "other"))
    assert differ(one, two) == 0 < differ(one, other)


def test_the_same_seed_gives_the_same_figures(train: Any) -> None:
    given = {"dropout": 0.1, "iterations": 10, "lora_rank": 2, "checkpoints": "none"}
    one, two = (train(name, **given).metrics for name in ("one", "two"))
    for pace in ("train_samples_per_second", "train_seconds"):
        assert one.pop(pace) and two.pop(pace)
    assert one == two


def test_attention_is_torchs_own_fast_one(train: Any, tmp_path: Path, encoder: Path) -> None:
    from miniml.training.pretrained import Pretrained

    pretrained = Pretrained.load(
        encoder, SingleLabelHead(("bad", "good")), TrainingSettings(model_id=str(encoder))
    )
    model, _, _ = pretrained.classifier()
    assert model.config._attn_implementation == "sdpa"


def test_the_gpu_that_was_chosen_is_taken_and_no_other(tmp_path: Path) -> None:
    arguments = OneDevice(output_dir=str(tmp_path), chosen="cuda:1", report_to=[])
    assert arguments.device == torch.device("cuda:1")
    assert arguments.n_gpu <= 1


def test_threads_beyond_the_quota_are_left_alone_meanwhile(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("200000 100000\n")
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with threads_within_quota(quota):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 4
        quota.write_text("800000 100000\n")
        with threads_within_quota(quota):
            assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def inexact(encoder: Path, tmp_path: Path) -> Path:
    """An encoder with a number that float32 can hold, and that bfloat16 rounds to infinity."""
    folder = shutil.copytree(encoder, tmp_path / "inexact")
    changed = weights(encoder)
    changed["encoder.layer.0.attention.self.key.bias"][0] = 3.4e38
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this processor has no bfloat16")
def test_what_bf16_cannot_compute_is_computed_in_fp32(
    train: Any, inexact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Frozen, so that no gradient goes through the layer, whose length would overflow float32 as well.
    given = {"model_id": str(inexact), "frozen_layers": 1, "iterations": 3}
    train("auto", precision="auto", **given)
    said = capsys.readouterr().out
    assert (
        "in bf16 the length of the gradient is nan at step 1: training again in fp32, from the beginning"
        in said
    )
    train("fp32", precision="fp32", **given)
    assert differ(weights(tmp_path / "auto"), weights(tmp_path / "fp32")) == 0


def test_bf16_that_was_asked_for_is_not_given_up_silently(train: Any, inexact: Path) -> None:
    with pytest.raises(
        InputError, match=r"the training diverged.*at step 1\. Lower .* or set precision to fp32"
    ):
        train(model_id=str(inexact), precision="bf16", frozen_layers=1, iterations=3)


def test_no_private_member_of_transformers_trainer_is_used_or_hidden() -> None:
    """They change in any release, and nobody says so."""
    own = re.findall(r"\bself\.(_[a-z]\w*)", inspect.getsource(Trainer))
    private = {name for name in [*own, *dir(Trainer)] if re.match("_[a-z]", name)}
    assert "_inner_training_loop" in private
    for path in (ROOT / "miniml" / "training").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            used = {node.attr} if isinstance(node, ast.Attribute) else set()
            if isinstance(node, ast.ClassDef):
                used = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            assert not used & private, path


def test_a_last_step_too_far_is_seen_on_the_validation_rows(train: Any, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"the validation loss is nan at step 1\. Lower learning_rate \(now 1e\+30\)"
    ):
        train(iterations=1, warmup_share=0.0, learning_rate=1e30)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lora_rank": 4, "frozen_layers": 1}, "Set one of them to 0"),
        ({"from_scratch": True, "lora_rank": 4}, "Leave one of the two out"),
        ({"from_scratch": True, "frozen_layers": -1}, "Leave one of the two out"),
        ({"early_stopping": 2, "best_by": "last"}, "Set best_by to one of accuracy, macro_f1, loss"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingSettings(**given)
