"""One Classifier for evaluation and serving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from miniml.errors import InputError, ModelFolderError
from miniml.model import calibration, manifest
from miniml.model.classifier import TOKENS_PER_BATCH, Classifier, batches_of_like_length
from miniml.tasks import SingleLabelPrediction
from tests import families, tiny


def test_probabilities_equal_those_of_a_plain_transformers_pipeline_at_the_models_temperature(
    model_dir: Path,
) -> None:
    texts = [tiny.review(n % 2, n) for n in range(50)] + ["great " * 300, "", "?"]
    plain: Any = pipeline(
        "text-classification",
        model=AutoModelForSequenceClassification.from_pretrained(model_dir),
        tokenizer=AutoTokenizer.from_pretrained(model_dir),
        top_k=None,
        truncation=True,
        function_to_apply="none",
    )
    classifier = Classifier.load(model_dir, SingleLabelPrediction)
    expected = []
    for answers in plain(texts):
        logits = np.array([answer["score"] for answer in answers])
        shares = calibration.softmax(logits / classifier.temperature)
        expected.append(dict(zip((answer["label"] for answer in answers), shares, strict=True)))
    for ours, theirs in zip(classifier.predict(texts), expected, strict=True):
        assert ours.probabilities == pytest.approx(theirs, abs=1e-4)
        assert ours.label == max(theirs, key=theirs.__getitem__)
        assert ours.score == pytest.approx(max(theirs.values()), abs=1e-4)


def test_a_long_text_is_cut_as_before_once_its_whole_length_was_asked_for(model_dir: Path) -> None:
    classifier = Classifier.load(model_dir)
    before = classifier.encode(["great " * 300])
    assert classifier.lengths(["great " * 300]).tolist() == [302]
    assert classifier.encode(["great " * 300])[0].tolist() == before[0].tolist()


def test_answers_keep_the_order_of_the_questions(model_dir: Path) -> None:
    classifier = Classifier.load(model_dir)
    texts = [tiny.review(n % 2, n) + " very" * (n % 7) for n in range(40)]
    together = classifier.predict_probabilities(texts)
    apart = np.concatenate([classifier.predict_probabilities([text]) for text in texts])
    assert np.abs(together - apart).max() < 1e-5
    assert together.sum(axis=1) == pytest.approx(np.ones(40), abs=1e-5)


def test_no_texts_get_no_answers(model_dir: Path) -> None:
    classifier = Classifier.load(model_dir)
    assert classifier.predict([]) == []
    assert classifier.predict_probabilities([]).shape == (0, 2)


def test_what_is_no_string_is_refused(model_dir: Path) -> None:
    with pytest.raises(InputError, match="a text is 7, of type int"):
        Classifier.load(model_dir).predict(["fine", 7])  # type: ignore[list-item]
    with pytest.raises(
        InputError, match=r"text 1 has half of a character \('\\ud800' at 5\).*Decode it anew"
    ):
        Classifier.load(model_dir).predict(["fine", "half \ud800"])


@pytest.mark.parametrize(
    "column",
    [
        np.array(["fine", "bad"]),
        pd.Series(["fine", "bad"], index=[7, 3]),
        ("fine", "bad"),
        pd.Index(["fine", "bad"]),
    ],
)
def test_texts_are_read_from_an_array_or_a_column_too(column: Any, model_dir: Path) -> None:
    classifier = Classifier.load(model_dir)
    assert classifier.predict(column) == classifier.predict(["fine", "bad"])
    assert classifier.lengths(column).tolist() == classifier.lengths(["fine", "bad"]).tolist()


@pytest.mark.parametrize(
    "texts",
    [
        {"text": "fine"},
        {"fine", "bad"},
        pd.DataFrame({"text": ["fine"]}),
        np.array("fine"),
        np.array([["fine"]]),
    ],
)
def test_what_has_no_texts_in_a_row_is_refused(texts: Any, model_dir: Path) -> None:
    with pytest.raises(InputError, match="give a list of strings"):
        Classifier.load(model_dir).predict(texts)


def test_batches_hold_every_text_once_and_stay_within_the_budget() -> None:
    lengths = [(7 * n) % 97 + 1 for n in range(500)] + [TOKENS_PER_BATCH + 1]
    batches = list(batches_of_like_length(lengths, TOKENS_PER_BATCH))
    assert sorted(index for batch in batches for index in batch) == list(range(501))
    assert batches[-1] == [500]
    for batch in batches[:-1]:
        assert len(batch) * max(lengths[index] for index in batch) <= TOKENS_PER_BATCH


def test_a_flipped_byte_of_the_weights_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "model")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelFolderError, match=r"model\.safetensors"):
        Classifier.load(folder)


def test_label_names_come_from_the_saved_model(tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "model", labels=("1 star", "2 stars", "3 stars"))
    assert json.loads((folder / "config.json").read_text())["id2label"]["2"] == "3 stars"
    classifier = Classifier.load(folder, SingleLabelPrediction)
    assert classifier.labels == ("1 star", "2 stars", "3 stars")
    assert list(classifier.predict(["great"])[0].probabilities) == ["1 star", "2 stars", "3 stars"]


def signed_anew(folder: Path) -> Path:
    """The folder signed as it stands now: what is wrong with it is then for the loader to find."""
    manifest.sign(folder, data={}, arguments={}, versions={}, metrics={})
    return folder


def refusal_of(folder: Path) -> str:
    with pytest.raises(ModelFolderError) as refused:
        Classifier.load(signed_anew(folder))
    message = str(refused.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, 0.999])
def test_weights_that_end_too_early_are_refused_by_name(tmp_path: Path, kept: float) -> None:
    weights = tiny.write_classifier(tmp_path / "model") / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    assert "model.safetensors" in refusal_of(weights.parent)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_file_that_a_model_needs_and_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    folder = tiny.write_classifier(tmp_path / "model")
    (folder / name).unlink()
    assert name in refusal_of(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_file_that_is_not_json_is_named(tmp_path: Path, name: str) -> None:
    folder = tiny.write_classifier(tmp_path / "model")
    (folder / name).write_text("{")
    assert name in refusal_of(folder)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_hidden_layers": 3}, "bert.encoder.layer.2."),
        ({"num_hidden_layers": 1}, "bert.encoder.layer.1."),
        ({"intermediate_size": 128}, "bert.encoder.layer.0.intermediate"),
        ({"attn_implementation": "somebody/kernel"}, "somebody/kernel"),
    ],
)
def test_a_config_of_another_model_than_the_weights_is_refused(
    tmp_path: Path, setting: dict[str, Any], message: str
) -> None:
    folder = tiny.write_classifier(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **setting}))
    assert message in refusal_of(folder)


def test_an_empty_text_has_one_answer_whatever_is_asked_with_it(tmp_path: Path) -> None:
    """A decoder's tokenizer finds nothing in it, and puts nothing beside it."""
    folder = families.write_classifier(tmp_path / "model", "gpt2")
    families.write_tokenizer(folder, around="", model_max_length=60)
    manifest.sign(folder, data={}, arguments={}, versions={}, metrics={})
    classifier = Classifier.load(folder)
    (alone,) = classifier.predict_probabilities([""])
    for others in (["great food"], ["awful"], ["the staff was rude " * 9]):
        classifier.predict_probabilities(others)
        found = classifier.predict_probabilities([*others, "", " \n", *others])
        assert found[1:3] == pytest.approx(np.stack([alone, alone]), abs=1e-6)


def test_weights_in_a_pickle_are_refused_unread(tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "model")
    torch.save(Witness(tmp_path / "witness"), folder / "pytorch_model.bin")
    assert "pytorch_model.bin" in refusal_of(folder)  # beside good weights too
    (folder / "model.safetensors").unlink()
    assert "pytorch_model.bin" in refusal_of(folder)
    assert not (tmp_path / "witness").exists()


class Witness:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self._path, "w")


@pytest.mark.parametrize("model_type", ["bert", "of-its-own"])
def test_code_in_a_model_folder_is_never_run(tmp_path: Path, model_type: str) -> None:
    folder = tiny.write_classifier(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": model_type, "auto_map": classes}))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'witness')!r}, 'w')\n")
    if model_type == "bert":  # which transformers knows itself
        assert Classifier.load(signed_anew(folder)).predict(["fine"])
    else:
        assert "code" in refusal_of(folder)
    assert not (tmp_path / "witness").exists()
