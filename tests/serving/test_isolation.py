"""One request never touches another's answer, whatever shares its batch: on every engine, for encoders and decoders."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kserve.errors import InvalidInput
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2ForSequenceClassification, PreTrainedTokenizerFast

from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.model.engines import REFERENCE, Engine, Logits, TokenIds
from miniml.tasks import SingleLabelPrediction
from serving import engine_choice, inference
from serving.engine_choice import Choice
from serving.inference import Inference, InferenceError
from serving.settings import CacheSettings, QueueSettings
from tests import patience, tiny

LABELS = ("bad", "good")
SAME = 1e-4
NUMBERS = count()
PATIENT = QueueSettings(timeout_s=patience.SECONDS)
# Tokens of one text, by which a fragile engine knows the request that it fails on.
POISON = 9


def write_decoder(folder: Path) -> Path:
    """A signed GPT-2 that pads on the left, as decoders are often made to, and whose tokenizer adds no token."""
    torch.manual_seed(0)
    vocabulary = {"<pad>": 0} | {
        sign: number for number, sign in enumerate(pre_tokenizers.ByteLevel.alphabet(), 1)
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="<pad>", padding_side="left", model_max_length=48
    ).save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.2,
        pad_token_id=0,
        use_cache=False,  # OpenVINO converts no GPT-2 that keeps keys and values for a next token
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    manifest.sign(
        folder, data={"fingerprint": "0" * 64, "labels": list(LABELS)}, arguments={}, versions={}, metrics={}
    )
    return folder


class Gate:
    """Where engines wait with their batches when it is shut, so that what comes meanwhile shares the next ones."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.batches: list[int] = []

    def shut(self) -> None:
        self.begun.clear()
        self.go.clear()

    async def is_reached(self) -> None:
        async with asyncio.timeout(patience.SECONDS):
            while not self.begun.is_set():
                await asyncio.sleep(0.001)

    def pass_through(self, texts: int) -> None:
        self.begun.set()
        assert self.go.wait(timeout=patience.SECONDS)
        self.batches.append(texts)


class GatedEngine:
    """An engine behind a gate."""

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self.name = engine.name
        self._engine = engine
        self._gate = gate

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        self._gate.pass_through(len(token_ids))
        return self._engine(token_ids, attention_mask)


class FragileEngine:
    """An engine that fails on a batch with a text of POISON tokens, and gives no number for one of a token less."""

    name = "fragile"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        lengths = attention_mask.sum(axis=1)
        if POISON in lengths:
            raise ValueError("a secret")
        logits = self._engine(token_ids, attention_mask)
        logits[lengths == POISON - 1] = np.nan
        return logits


@dataclass(frozen=True)
class Served:
    inference: Inference
    gate: Gate
    alone: Classifier[SingleLabelPrediction]
    """What answers one text at a time, on the reference."""

    @classmethod
    def by(
        cls, model_dir: Path, name: str, made_of: Callable[[Engine], Engine] = lambda engine: engine
    ) -> Served:
        """A model on the engine of that name, or what is `made_of` it, behind a gate; answers are kept."""
        alone, gate = Classifier.load(model_dir, SingleLabelPrediction), Gate()

        def gated(classifier: Classifier) -> Classifier:
            return classifier.on(GatedEngine(made_of(classifier.engine), gate))

        def choose(*arguments: Any) -> Choice:
            choice = engine_choice.choose(*arguments)
            return replace(
                choice,
                classifier=gated(choice.classifier),
                streams=[gated(stream) for stream in choice.streams],
            )

        served = Inference(alone, PATIENT, CacheSettings(entries=50))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inference, "choose", choose)
            served.start(model_dir, name)
        return cls(served, gate, alone)

    async def together(self, requests: Sequence[Sequence[str]]) -> list[Any]:
        """What each of the requests gets where all of them wait while the engine works on another."""
        self.gate.shut()
        first = asyncio.create_task(self.inference.predict([f"the first {next(NUMBERS)}"]))  # and not kept
        await self.gate.is_reached()
        asked = [asyncio.create_task(self.inference.predict(texts)) for texts in requests]
        await asyncio.sleep(0)  # each is in the tokenizer's line
        await self.inference.words("the last")
        await asyncio.sleep(0)
        self.gate.go.set()
        await first
        answers: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
        return answers

    def expected(self, texts: Sequence[str]) -> list[dict[str, float]] | None:
        """Each text's probabilities; None where a text has no token."""
        if not all(len(ids) for ids in self.alone.encode(texts)):
            return None
        return [self.alone.predict([text])[0].probabilities for text in texts]


@pytest.fixture(scope="module")
def models_by_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("isolation")
    return {
        "encoder": tiny.write_classifier(folder / "encoder", spread=0.5),
        "decoder": write_decoder(folder / "decoder"),
    }


@pytest.fixture(
    scope="module",
    params=[(kind, engine) for kind in ("encoder", "decoder") for engine in (REFERENCE, "openvino-fp32")],
    ids="-".join,
)
def served(request: pytest.FixtureRequest, models_by_kind: dict[str, Path]) -> Served:
    kind, engine = request.param
    return Served.by(models_by_kind[kind], engine)


TEXTS = st.one_of(
    st.sampled_from(["", " ", "\n", "the", "great food", "awful staff " * 20]),
    st.lists(st.sampled_from(tiny.WORDS), min_size=1, max_size=12).map(" ".join),
    st.text(max_size=30),
)


@settings(max_examples=25)
@given(requests=st.lists(st.lists(TEXTS, min_size=1, max_size=4), min_size=1, max_size=6))
def test_each_text_gets_the_answer_that_it_gets_alone(served: Served, requests: list[list[str]]) -> None:
    found = asyncio.run(served.together(requests))
    for texts, answers in zip(requests, found, strict=True):
        expected = served.expected(texts)
        if expected is None:
            assert isinstance(answers, InvalidInput), answers
            continue
        assert not isinstance(answers, BaseException), answers
        for answer, probabilities in zip(answers, expected, strict=True):
            assert answer.probabilities == pytest.approx(probabilities, abs=SAME)


def test_requests_that_wait_together_share_batches(served: Served) -> None:
    served.gate.batches.clear()
    asyncio.run(
        served.together([[f"so many {word}"] for word in ("words", "birds", "roads", "years", "hours")])
    )
    assert sum(served.gate.batches) == 6
    assert max(served.gate.batches) > 1


def test_an_empty_text_gets_no_other_text_s_answer_and_none_is_kept_for_it(served: Served) -> None:
    served.gate.go.set()
    expected = served.expected([""])
    for before in ("awful", "great food"):
        asyncio.run(served.inference.predict([before]))
        if expected is None:
            with pytest.raises(
                InvalidInput, match=r"^text 1 is empty, or has nothing that this model reads\."
            ):
                asyncio.run(served.inference.predict([before, ""]))
        else:
            (answer,) = asyncio.run(served.inference.predict([""]))
            assert isinstance(answer, SingleLabelPrediction)
            assert answer.probabilities == pytest.approx(expected[0], abs=SAME)


def test_a_request_that_the_engine_fails_on_fails_alone(models_by_kind: dict[str, Path]) -> None:
    served = Served.by(models_by_kind["encoder"], REFERENCE, FragileEngine)
    poison, good, fine = " ".join(["the"] * (POISON - 2)), "the food was great", "the staff was very friendly"
    requests = [[good, fine], [poison], [fine]]
    for _ in range(2):  # and no failure is kept
        first, failed, last = asyncio.run(served.together(requests))
        assert isinstance(failed, InferenceError)
        for answers, texts in ((first, requests[0]), (last, requests[2])):
            expected = served.expected(texts)
            assert expected is not None
            for answer, probabilities in zip(answers, expected, strict=True):
                assert answer.probabilities == pytest.approx(probabilities, abs=SAME)


def test_an_answer_that_is_no_number_is_given_to_nobody_and_not_kept(models_by_kind: dict[str, Path]) -> None:
    served = Served.by(models_by_kind["encoder"], REFERENCE, FragileEngine)
    served = Served.by(models_by_kind["encoder"], REFERENCE, FragileEngine)
    requests = [["the food was great"], [" ".join(["the"] * (POISON - 3))]]
    for _ in range(2):
        (answer,), failed = asyncio.run(served.together(requests))
        assert answer.label in LABELS
        assert isinstance(failed, InferenceError)
