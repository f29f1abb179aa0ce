"""The head begins as a classifier of the encoder's own features, wherever that can be had."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    CamembertConfig,
    CamembertModel,
    GPT2Config,
    GPT2Model,
)

from miniml.data import preparation, prepared
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.training.batches import EncodedTexts, collate, encode_split
from miniml.training.fine_tune import fine_tune
from miniml.training.linear_probe import WEIGHT_DECAY, fit_head
from miniml.training.pretrained import Pretrained
from miniml.training.targets import Target, target_of
from tests import tiny
from tests.conftest import TRAINING

ON = torch.device("cpu")


class Beginning:
    """A model as it is before its first step, and the training texts of a dataset."""

    def __init__(self, dataset_dir: Path, model_id: Path, scratch: Path, **settings: Any) -> None:
        given = TrainingSettings(model_id=str(model_id), **TRAINING, **settings)
        splits, summary = prepared.load(dataset_dir, ("train",))
        self.target: Target = target_of(summary, splits["train"]["label"][:], given)
        pretrained = Pretrained.load(model_id, self.target.head, given)
        self.tokenizer = pretrained.tokenizer
        torch.manual_seed(0)
        self.model, _, self.drawn = pretrained.classifier()
        self.texts: EncodedTexts = encode_split(
            splits["train"], self.target, self.tokenizer, scratch / "tokens"
        )
        self.objective = self.target.objective(self.texts.labels, given)

    def fit(self, seen: int = 10_000) -> int:
        return fit_head(
            self.model, self.drawn, self.texts, seen, self.objective, self.tokenizer, ON, bf16=False
        )

    @torch.no_grad()
    def loss(self) -> float:
        rows = collate(
            self.tokenizer, self.texts.shortest, [self.texts[number] for number in range(len(self.texts))]
        )
        labels = rows.pop("labels")
        return float(self.objective.total(self.model.eval()(**rows).logits, labels)) / len(labels)

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


@pytest.fixture
def telling(tmp_path: Path) -> Path:
    """An encoder whose features differ from text to text, as a pretrained one's do."""
    return tiny.write_encoder(tmp_path / "encoder", spread=0.3)


@pytest.fixture
def beginning(dataset_dir: Path, telling: Path, tmp_path: Path) -> Beginning:
    return Beginning(dataset_dir, telling, tmp_path)


def test_the_first_step_begins_from_a_head_that_knows_the_encoders_features(beginning: Beginning) -> None:
    before, loss = beginning.weights(), beginning.loss()
    assert beginning.fit() == len(beginning.texts)
    assert beginning.loss() < 0.8 * loss
    changed = {name for name, value in beginning.weights().items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_it_is_as_good_as_the_best_head_on_these_features(beginning: Beginning) -> None:
    """Against scikit-learn's logistic regression with the same penalty."""
    from sklearn.linear_model import LogisticRegression

    beginning.fit()
    taken: list[torch.Tensor] = []
    hook = beginning.model.classifier.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    beginning.loss()
    hook.remove()
    features = taken[0].numpy()
    inputs = features - features.mean(axis=0)
    # Two classes share the penalty between their two rows of weights, where scikit-learn has one row.
    peer = LogisticRegression(C=2 / (WEIGHT_DECAY * len(inputs)), tol=1e-8, max_iter=1000)
    peer.fit(inputs, beginning.texts.labels)
    ours = beginning.model.classifier(taken[0]).softmax(dim=1)[:, 1].detach().numpy()
    assert np.abs(ours - peer.predict_proba(inputs)[:, 1]).max() < 0.02


@pytest.mark.parametrize("write", [tiny.write_tagged, tiny.write_scored])
def test_several_labels_and_numbers_have_one_too(write: Any, telling: Path, tmp_path: Path) -> None:
    write(tmp_path / "rows.csv")
    column = "tags" if write is tiny.write_tagged else "score"
    settings = DataSettings(
        dataset_id=str(tmp_path / "rows.csv"),
        label_column=column,
        label_separator="|" if column == "tags" else "",
    )
    preparation.prepare(settings, tmp_path / "dataset")
    beginning = Beginning(tmp_path / "dataset", telling, tmp_path)
    loss = beginning.loss()
    assert beginning.fit() > 0
    assert beginning.loss() < 0.8 * loss


def test_a_head_that_was_trained_stays(model_dir: Path, dataset_dir: Path, tmp_path: Path) -> None:
    beginning = Beginning(dataset_dir, model_dir, tmp_path)
    loss = beginning.loss()
    assert beginning.fit() == 0
    assert beginning.loss() == loss < 0.3


def test_random_weights_have_no_features_to_fit_to(dataset_dir: Path, telling: Path, tmp_path: Path) -> None:
    assert Beginning(dataset_dir, telling, tmp_path, from_scratch=True).fit() == 0


def test_a_decoder_whose_head_reads_every_token_begins_as_ever(dataset_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "decoder"
    torch.manual_seed(0)
    GPT2Model(
        GPT2Config(
            vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=64, eos_token_id=3, bos_token_id=3
        )
    ).save_pretrained(folder)
    tiny.write_tokenizer(folder)
    beginning = Beginning(dataset_dir, folder, tmp_path)
    before = beginning.weights()
    assert beginning.fit() == 0
    assert all(torch.equal(value, before[name]) for name, value in beginning.weights().items())


def test_it_takes_no_more_texts_than_a_tenth_of_the_trainings_time(beginning: Beginning) -> None:
    assert beginning.fit(seen=100) == 30
    assert beginning.fit(seen=20) == 0


def test_a_head_that_its_model_lists_before_the_encoder_is_found(dataset_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "camembert"
    torch.manual_seed(0)
    CamembertModel(
        CamembertConfig(
            vocab_size=64,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=70,
            initializer_range=0.3,
            pad_token_id=0,
        )
    ).save_pretrained(folder)
    tiny.write_tokenizer(folder)
    beginning = Beginning(dataset_dir, folder, tmp_path)
    before = beginning.weights()
    assert beginning.fit() > 0
    changed = {name for name, value in beginning.weights().items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.out_proj.weight", "classifier.out_proj.bias"}


def test_with_few_texts_for_each_of_many_classes_the_head_begins_as_ever(
    telling: Path, tmp_path: Path
) -> None:
    source = tmp_path / "rows.csv"
    rows = [f"{tiny.review(number % 2, number)},{number % 30}" for number in range(600)]
    source.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    preparation.prepare(DataSettings(dataset_id=str(source), near_duplicates="off"), tmp_path / "dataset")
    beginning = Beginning(tmp_path / "dataset", telling, tmp_path)
    assert beginning.fit(seen=700) == 0
    assert beginning.fit(seen=900) == 270


def test_an_encoder_that_hardly_tells_texts_apart_gets_no_head_of_huge_weights(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    beginning = Beginning(dataset_dir, encoder, tmp_path)
    assert beginning.fit() > 0
    assert beginning.model.classifier.weight.abs().max() < 1


def test_it_can_be_left_out(dataset_dir: Path, telling: Path, tmp_path: Path) -> None:
    def head(name: str, **settings: Any) -> torch.Tensor:
        given = {"model_id": str(telling), **TRAINING, "iterations": 10, "learning_rate": 1e-9, **settings}
        fine_tune(dataset_dir, tmp_path / name, TrainingSettings(**given))
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / name)
        shutil.rmtree(tmp_path / name)
        return torch.as_tensor(model.classifier.weight).detach()

    one, again = (head("without", linear_probe=False) for _ in range(2))
    assert torch.allclose(one, again, atol=1e-6)
    assert not torch.allclose(one, head("with", linear_probe=True), atol=0.1)
