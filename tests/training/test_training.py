"""Fine-tuning: learns, is repeatable, signs what it writes, and refuses early what cannot work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BartConfig, BartModel, XLNetConfig, XLNetModel

from miniml.data import prepared
from miniml.errors import InputError, StorageError
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.model.history import HISTORY_NAME
from miniml.settings.training import TrainingSettings
from miniml.tasks import SingleLabelPrediction
from miniml.training.fine_tune import TrainingResult, fine_tune
from miniml.training.history import evaluation_steps
from tests import tiny
from tests.conftest import TRAINING
from tests.disks import small_disk


def train(dataset_dir: Path, folder: Path, encoder: Path, **settings: Any) -> TrainingResult:
    return fine_tune(
        dataset_dir, folder, TrainingSettings(**{"model_id": str(encoder), **TRAINING, **settings})
    )


def test_a_tiny_model_learns_to_tell_good_from_bad(model_dir: Path) -> None:
    assert manifest.read(model_dir).metrics["validation_accuracy"] >= 0.9
    answers = Classifier.load(model_dir, SingleLabelPrediction).predict(
        ["the food was great and tasty", "awful rude staff and cold food"]
    )
    assert [answer.label for answer in answers] == ["good", "bad"]


def test_the_folder_is_what_transformers_reads_and_tells_how_it_came_about(
    model_dir: Path, dataset_dir: Path
) -> None:
    names = {path.name for path in model_dir.iterdir()}
    assert names >= {"model.safetensors", "config.json", "tokenizer.json", "miniml.json"}
    config = json.loads((model_dir / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    signed = manifest.verify(model_dir)
    assert signed.data["fingerprint"] == prepared.load(dataset_dir)[1].fingerprint
    assert signed.arguments["training"]["iterations"] == 60
    assert signed.versions.keys() >= {"python", "torch", "transformers", "miniml"}
    assert signed.metrics["train_samples_per_second"] > 0
    weights = load_file(model_dir / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_the_history_holds_both_curves(model_dir: Path) -> None:
    points = json.loads((model_dir / HISTORY_NAME).read_text())
    assert [point["step"] for point in points if "loss" in point] == list(range(1, 61))
    assert len([point for point in points if "eval_loss" in point]) >= TrainingSettings().evaluations


def test_the_same_seed_gives_the_same_weights_and_another_another_digest(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        kept = str(tmp_path / "kept" / name)
        train(dataset_dir, tmp_path / name, encoder, iterations=5, seed=seed, checkpoints=kept)
    one, two, three = (manifest.verify(tmp_path / name) for name in ("one", "two", "three"))
    assert one.files["model.safetensors"] == two.files["model.safetensors"]
    # How long it took, and where it kept what, is told and is not the model.
    assert one.digest == two.digest != three.digest


def test_a_long_text_keeps_the_end_that_was_asked_for(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    for side, same_ending_is_all_that_counts in (("left", True), ("right", False)):
        folder = tmp_path / side
        train(dataset_dir, folder, encoder, iterations=2, max_length=8, truncation_side=side)
        long, other = "good " * 20 + "bad " * 20, "awful " * 20 + "bad " * 20
        one, two = Classifier.load(folder).predict_probabilities([long, other])
        assert (one.tolist() == two.tolist()) is same_ending_is_all_that_counts


def test_no_iterations_means_whole_epochs(dataset_dir: Path, encoder: Path, tmp_path: Path) -> None:
    rows = prepared.load(dataset_dir)[1].rows["train"]
    result = train(dataset_dir, tmp_path / "model", encoder, iterations=0, epochs=2, batch_size=64)
    assert result.metrics["steps"] == 2 * -(-rows // 64)


def test_training_does_without_the_test(dataset_dir: Path, encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset_dir, tmp_path / "dataset")
    shutil.rmtree(tmp_path / "dataset" / "test")
    result = train(tmp_path / "dataset", tmp_path / "model", encoder, iterations=1)
    whole = train(dataset_dir, tmp_path / "other", encoder, iterations=1)
    assert result.metrics["train_loss"] == whole.metrics["train_loss"]


def test_frozen_layers_stay_as_pretrained_and_the_others_learn(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    train(dataset_dir, tmp_path / "model", encoder, iterations=2, frozen_layers=1)
    before = load_file(encoder / "model.safetensors")
    after = load_file(tmp_path / "model" / "model.safetensors")
    same = {name: torch.equal(weights, after[f"bert.{name}"]) for name, weights in before.items()}
    weight = "attention.self.query.weight"
    assert same["embeddings.word_embeddings.weight"]
    assert same[f"encoder.layer.0.{weight}"]
    assert not same[f"encoder.layer.1.{weight}"]


def test_more_frozen_layers_than_there_are_is_refused(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"frozen_layers is 3, but .* has 2 layers"):
        train(dataset_dir, tmp_path / "model", encoder, frozen_layers=3)


def test_a_longer_text_than_the_model_takes_is_cut_and_said(
    dataset_dir: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(dataset_dir, tmp_path / "model", encoder, max_length=4096, iterations=1)
    assert "max_length 4096 is more than the model takes: cutting at 64 tokens" in capsys.readouterr().out


def test_a_device_that_is_not_there_is_refused(dataset_dir: Path, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"device 'cuda:7' is not on this machine; torch sees: cpu"):
        train(dataset_dir, tmp_path / "model", encoder, device="cuda:7")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("lost", "message"), [("model.safetensors", "has no weights"), ("config.json", "has no config.json")]
)
def test_a_model_folder_that_lacks_a_part_is_refused(
    lost: str, message: str, dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    shutil.copytree(encoder, tmp_path / "encoder")
    (tmp_path / "encoder" / lost).unlink()
    with pytest.raises(InputError) as refused:
        train(dataset_dir, tmp_path / "model", tmp_path / "encoder")
    assert message in str(refused.value)
    assert "tokenizer.json" in str(refused.value)


def test_a_loss_that_is_no_number_ends_the_training(dataset_dir: Path, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the training diverged.*Lower learning_rate"):
        train(dataset_dir, tmp_path / "model", encoder, learning_rate=1e30)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_the_model_is_named_before_the_training(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path, "32k"):
        with pytest.raises(
            StorageError, match=r"saving the model needs 0 MB, but the disk of .* has 0 MB free"
        ):
            train(dataset_dir, tmp_path / "model", encoder, iterations=10_000_000)
        assert list(tmp_path.iterdir()) == []


def test_a_model_that_gives_its_encoders_states_too_is_validated_by_its_logits(
    dataset_dir: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=64,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,  # Its classifier reads this token, with which the tokenizer ends a text.
        decoder_start_token_id=3,
        forced_eos_token_id=3,
    )
    BartModel(config).save_pretrained(tmp_path / "bart")
    tiny.write_tokenizer(tmp_path / "bart")
    result = train(dataset_dir, tmp_path / "model", tmp_path / "bart", iterations=4)
    assert 0 <= result.metrics["validation_accuracy"] <= 1


def test_a_model_of_any_number_of_positions_is_cut_where_it_was_asked_for(
    dataset_dir: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    XLNetModel(XLNetConfig(vocab_size=64, d_model=32, n_layer=1, n_head=2, d_inner=64)).save_pretrained(
        tmp_path / "xlnet"
    )
    tiny.write_tokenizer(tmp_path / "xlnet")
    train(dataset_dir, tmp_path / "model", tmp_path / "xlnet", iterations=2)
    assert manifest.read(tmp_path / "model").arguments["used"]["max_length"] == TRAINING["max_length"]


def test_validation_is_looked_at_after_each_step_at_most() -> None:
    assert all(evaluation_steps(7, evaluations) == set(range(1, 8)) for evaluations in (7, 8, 10, 10**18))
    assert evaluation_steps(7, 2) == {4, 7}
