"""Every family of encoders that transformers ships trains and answers, or is refused in a sentence."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.utils import logging as transformers_logging

from miniml.errors import InputError
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.model.engines import REFERENCE, TOLERANCE, TorchEngine
from miniml.settings.training import TrainingSettings
from miniml.tasks.single_label.training import SingleLabelTarget
from miniml.training.batches import EncodedTexts
from miniml.training.pretrained import Pretrained
from miniml.training.trainer import ClassifierTrainer, training_arguments
from serving.engine_choice import choose
from tests import families

CPU = torch.device("cpu")
TARGET = SingleLabelTarget(["bad", "so so", "good"])
# Of what the tokenizer knows nothing, of special tokens in a client's text, and of all lengths.
TEXTS = [
    "",
    "  \n",
    "great food",
    "</s>",
    "<pad>",
    "the staff was rude </s> and the food cold </s>",
    "<pad> <pad> awful",
    "unheard",
    "we loved the tasty food and a place " * 12,
]
REFUSED = {
    "canine": "fails on a text of 2 tokens",  # It pools four characters into one.
    "funnel": "fails on a text of 2 tokens",
    "perceiver": "the weights have nothing that fits perceiver.decoder",  # which come with its other heads
    "reformer": "axial_pos_shape",
    "xmod": "Input language unknown",
}
"""The families that are not for texts alone or of any length, and why."""
CONVERTED = ("deberta-v2", "gpt2", "modernbert", "roberta", "xlm", "xlnet")
"""The families whose models are tried on OpenVINO too."""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def trained(folder: Path, model_dir: Path, scratch: Path) -> Classifier:
    """What two steps on `TEXTS` make of the model in `folder`, as it is served."""
    settings = TrainingSettings(
        model_id=str(folder), max_length=64, iterations=2, batch_size=len(TEXTS), learning_rate=1e-3
    )
    pretrained = Pretrained.load(folder, TARGET.head, settings)
    model, *_ = pretrained.classifier()
    classifier = Classifier(TorchEngine(REFERENCE, model), pretrained.tokenizer, TARGET.head, None)  # type: ignore[arg-type]
    token_ids = classifier.encode(TEXTS)
    labels = np.arange(len(TEXTS)) % 3
    tokens = np.concatenate(token_ids).astype(np.int32)
    texts = EncodedTexts(tokens, [len(ids) for ids in token_ids], labels)
    trainer = ClassifierTrainer(
        model,
        training_arguments(settings, len(texts), CPU, False, scratch),
        {"train": texts, "validation": texts},
        pretrained.tokenizer,
        TARGET,
        TARGET.plain,
    )
    trainer.train()
    assert np.isfinite(trainer.evaluate()["eval_loss"])
    model.float().save_pretrained(model_dir)
    pretrained.tokenizer.save_pretrained(model_dir)
    manifest.sign(model_dir, data={}, arguments={}, versions={}, metrics={})
    return Classifier.load(model_dir)


def require_each_text_its_own(classifier: Classifier, least: float = 0.0) -> None:
    """The answer to a text is the same alone, beside any other, and after any other.

    A difference in the logits counts from a thousandth of the largest, or from `least`.
    """
    token_ids = classifier.encode(TEXTS)
    assert min(map(len, token_ids)) > 0
    alone = np.concatenate([classifier.scaled([ids]) for ids in token_ids])
    assert np.isfinite(alone).all()
    beside_the_longest = [classifier.scaled([ids, token_ids[-1]])[0] for ids in token_ids]
    backwards = classifier.scaled(token_ids[::-1])[::-1]
    for found in (np.stack(beside_the_longest), backwards, classifier.scaled(token_ids)):
        assert np.abs(found - alone).max() <= max(least, 1e-3 * np.abs(alone).max())


@pytest.mark.parametrize("kind", families.of_text())
def test_a_family_trains_and_gives_each_text_its_own_answer_or_is_refused(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "pretrained"
    families.write_family(folder, kind)
    families.write_tokenizer(folder)
    if kind in REFUSED:
        with pytest.raises(InputError, match=REFUSED[kind]) as refused:
            trained(folder, tmp_path / "model", tmp_path)
        assert str(folder) in str(refused.value)
        assert len(str(refused.value)) < 1000
        assert "\n" not in str(refused.value)
        return
    classifier = trained(folder, tmp_path / "model", tmp_path)
    require_each_text_its_own(classifier)
    if kind in CONVERTED:
        with suppress(InputError):  # Then torch serves it.
            choice = choose(classifier, tmp_path / "model", "openvino-fp32", threads=1)
            require_each_text_its_own(choice.classifier, TOLERANCE)
