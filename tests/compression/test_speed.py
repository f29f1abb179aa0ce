"""Models are timed each on the engine that is the fastest for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from miniml.compression import speed
from miniml.model.classifier import Classifier
from miniml.model.engines import ENGINES, EngineKind, Logits, ServedModel, TokenIds, TorchEngine
from tests import tiny


class Slow(TorchEngine):
    """Takes longer for a batch than torch does for a tiny model."""

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        time.sleep(0.05)
        return super().__call__(token_ids, attention_mask)


class DisturbedAtFirst(TorchEngine):
    """Takes longer than `Slow` in its first passes, as where another program runs for a while."""

    passes = 0

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        self.passes += 1
        if self.passes <= 2:
            time.sleep(0.3)
        return super().__call__(token_ids, attention_mask)


@pytest.fixture
def two_engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has these two be the only engines beside the reference."""
    kinds = {"slow": Slow, "disturbed": DisturbedAtFirst}
    builds = {name: partial(_build, kind, name) for name, kind in kinds.items()}
    monkeypatch.setattr(
        speed, "builders", lambda served: {each: partial(builds[each], served) for each in builds}
    )
    for name, build in builds.items():
        ENGINES.add(name, EngineKind(build))
    yield
    for name in builds:
        ENGINES.remove(name)


def _build(kind: type[TorchEngine], name: str, served: ServedModel) -> TorchEngine:
    return kind(name, served.model)


@pytest.mark.usefixtures("two_engines")
def test_an_engine_that_another_program_slowed_for_a_while_is_not_taken_for_a_slow_one(
    tiny_model: Path,
) -> None:
    reference = Classifier.load(tiny_model)
    slow = reference.on(Slow("reference", reference.engine.model))  # type: ignore[attr-defined]
    texts = [tiny.review(number % 2, number) for number in range(8)]
    assert speed.on_fastest_engine(slow, tiny_model, texts).engine.name == "disturbed"
