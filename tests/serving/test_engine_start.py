"""A server starts with an engine that is likely to be the fastest, and measures when nobody asks."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from miniml.files.folders import user_cache
from miniml.model import engines
from miniml.model.classifier import Classifier
from miniml.model.engines import ENGINES, REFERENCE, EngineKind, Logits, ServedModel, TokenIds
from serving import engine_choice, engine_records, inference
from serving.engine_choice import Choice, choose, choose_at_once
from serving.engine_records import EngineRecord
from serving.inference import Inference
from tests import patience, tiny
from tests.predictor import running

FP32 = "openvino-fp32"


class Slow:
    """Answers as the reference, after longer than any engine takes for a tiny model."""

    name = "slow"

    def __init__(self, served: ServedModel) -> None:
        self._reference = served.reference

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        time.sleep(0.05)
        return self._reference(token_ids, attention_mask)


class DisturbedAtFirst(Slow):
    """As the reference, but slower than `Slow` while the engines are measured the first time, as by another program."""

    name = "disturbed"

    def __init__(self, served: ServedModel) -> None:
        super().__init__(served)
        self._batches = 0

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        self._batches += len(token_ids) > 1
        if self._batches <= engine_choice.MIN_PASSES:
            time.sleep(0.1)
        return self._reference(token_ids, attention_mask)


@pytest.fixture
def likely_is_slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has the slowest of all engines be the one that a server starts with."""
    monkeypatch.setattr(engine_choice, "LIKELY", (Slow.name, REFERENCE))
    monkeypatch.setattr(inference, "QUIET_S", 0.01)
    ENGINES.add(Slow.name, EngineKind(Slow))
    yield
    ENGINES.remove(Slow.name)


@pytest.fixture
def classifier(tiny_model: Path) -> Classifier:
    return Classifier.load(tiny_model)


@pytest.fixture
def fp32_is_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "LIKELY", (FP32, REFERENCE))


def tried(choice: Choice) -> list[str]:
    return [line.split()[0] for line in choice.measurements.splitlines()[1:-1]]


def measured(choice: Choice) -> dict[str, list[float]]:
    """The figures of each engine: its milliseconds, and its difference from the reference."""
    words = [line.partition("  for ")[0].split() for line in choice.measurements.splitlines()[1:]]
    return {name: [float(figure) for figure in figures] for name, *figures in words}


def keep(choice: Choice, single: str, batched: str) -> None:
    engine_records.write(choice.circumstances, EngineRecord(single, batched))


def test_where_there_is_a_gpu_a_server_starts_on_it() -> None:
    known = [name for name, _ in ENGINES.items()]
    assert set(engine_choice.LIKELY) <= set(known)
    assert "cuda" in engine_choice.LIKELY[0]
    assert engine_choice.LIKELY[-1] == REFERENCE


@pytest.mark.usefixtures("fp32_is_likely")
def test_a_first_start_tries_the_likely_engine_alone(classifier: Classifier, tiny_model: Path) -> None:
    choice = choose_at_once(classifier, tiny_model, threads=1)
    assert tried(choice) == [FP32]
    assert choice.classifier.engine.name == FP32
    assert choice.is_guess


@pytest.mark.usefixtures("fp32_is_likely")
def test_a_later_start_begins_with_what_was_measured_and_measures_nothing(
    classifier: Classifier, tiny_model: Path
) -> None:
    keep(choose_at_once(classifier, tiny_model, threads=1), FP32, REFERENCE)
    choice = choose_at_once(classifier, tiny_model, threads=1)
    assert choice.engines == EngineRecord(FP32, REFERENCE)
    assert choice.classifier.engine.name == f"{FP32} and {REFERENCE}"
    assert not choice.is_guess
    assert choose_at_once(classifier, tiny_model, threads=2).is_guess, "the record is of one thread"


@pytest.mark.usefixtures("fp32_is_likely")
def test_an_engine_that_answers_otherwise_serves_nothing_even_if_it_was_the_fastest(
    classifier: Classifier, tiny_model: Path, tmp_path: Path
) -> None:
    changed = Classifier.load(tiny_model)
    model = changed.engine.model  # type: ignore[attr-defined]
    model.classifier.bias.data[0] += 0.5
    assert engines.export(model, tmp_path)
    choice = choose_at_once(classifier, tmp_path, threads=1)
    assert choice.classifier.engine.name == REFERENCE
    keep(choice, FP32, FP32)
    choice = choose_at_once(classifier, tmp_path, threads=1)
    assert choice.classifier.engine.name == REFERENCE
    assert "refused" in choice.measurements


@pytest.mark.parametrize(
    "content",
    ["", "[]", "[" * 100_000, '{"fastest": {}}', '{"fastest": {"single": "none", "batched": 1}}'],
    ids=["empty", "list", "nested", "nothing", "unknown"],
)
@pytest.mark.usefixtures("fp32_is_likely")
def test_a_record_that_says_nothing_usable_is_as_good_as_none(
    classifier: Classifier, tiny_model: Path, content: str
) -> None:
    keep(choose_at_once(classifier, tiny_model, threads=1), REFERENCE, REFERENCE)
    (record,) = (user_cache() / engine_records.FOLDER).iterdir()
    record.write_text(content)
    choice = choose_at_once(classifier, tiny_model, threads=1)
    assert choice.classifier.engine.name == FP32
    assert choice.is_guess


def test_a_record_holds_for_one_kind_of_processor_and_one_shape_of_model(
    classifier: Classifier, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = choose(classifier, tiny_model, REFERENCE, threads=1).circumstances
    assert of == choose(Classifier.load(tiny_model), tiny_model, REFERENCE, threads=1).circumstances
    wider = tiny.write_classifier(tmp_path / "wider", labels=tuple("abcdef"))
    assert of != choose(Classifier.load(wider), wider, REFERENCE, threads=1).circumstances
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    capped = choose(classifier, tiny_model, REFERENCE, threads=1).circumstances
    assert capped["features"] == []
    engine_records.write(of, EngineRecord(FP32, FP32))
    assert engine_records.read(of) == EngineRecord(FP32, FP32)
    assert engine_records.read({**of, "features": ["another"]}) is None


def test_a_cache_that_cannot_be_written_to_costs_no_start(
    classifier: Classifier, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINIML_CACHE", str(tmp_path / "file"))
    choice = choose_at_once(classifier, tiny_model, threads=1)
    keep(choice, REFERENCE, REFERENCE)
    assert engine_records.read(choice.circumstances) is None


def test_a_record_that_cannot_be_put_in_its_place_leaves_no_file_behind() -> None:
    of = {"processor": "any"}
    place = engine_records._file(of)
    (place / "in the way").mkdir(parents=True)
    engine_records.write(of, EngineRecord(FP32, FP32))
    assert list(place.parent.iterdir()) == [place]


def test_importing_leaves_the_turns_of_threads_as_a_server_sets_them_meanwhile() -> None:
    before = sys.getswitchinterval()
    try:
        with inference.unnoticed_imports():
            sys.setswitchinterval(before / 2)
        assert sys.getswitchinterval() == pytest.approx(before / 2)
    finally:
        sys.setswitchinterval(before)


@pytest.mark.usefixtures("likely_is_slow")
def test_the_fastest_engine_takes_over_once_nobody_asks_and_later_starts_begin_with_it(
    classifier: Classifier, tiny_model: Path
) -> None:
    text = tiny.review(1, 7)
    expected = classifier.predict_probabilities([text])[0]
    served = Inference(classifier)
    guess = served.start(tiny_model)
    assert guess.classifier.engine.name == Slow.name
    assert asyncio.run(served.probabilities([text]))[0] == pytest.approx(expected, abs=0.02)
    patience.wait_until(lambda: Slow.name not in served.classifier.engine.name)
    assert asyncio.run(served.probabilities([text] * 3))[2] == pytest.approx(expected, abs=0.02)
    assert served.healthy
    later = Inference(Classifier.load(tiny_model)).start(tiny_model)
    assert not later.is_guess
    assert later.classifier.engine.name == served.classifier.engine.name


@pytest.mark.usefixtures("likely_is_slow")
def test_an_engine_that_another_program_slowed_for_a_while_is_not_taken_for_a_slow_one(
    classifier: Classifier, tiny_model: Path
) -> None:
    ENGINES.add(DisturbedAtFirst.name, EngineKind(DisturbedAtFirst))
    try:
        choice = choose(classifier, tiny_model, engine_choice.AUTO, threads=1)
    finally:
        ENGINES.remove(DisturbedAtFirst.name)
    milliseconds = {name: figures[:-1] for name, figures in measured(choice).items()}
    assert max(milliseconds[DisturbedAtFirst.name]) < min(milliseconds[Slow.name])


@pytest.mark.usefixtures("likely_is_slow")
def test_no_answer_is_wrong_while_another_engine_takes_over_from_the_one_that_works(
    classifier: Classifier, tiny_model: Path
) -> None:
    texts = [tiny.review(number % 2, number) for number in range(20)]
    expected = classifier.predict_probabilities(texts)
    served = Inference(classifier)
    served.start(tiny_model)
    engines_of_answers = set()

    async def ask(client: int, number: int) -> None:
        chosen = [(5 * client + number) % len(texts), (number + 7) % len(texts)][: 1 + (client + number) % 2]
        rows = await served.probabilities([texts[place] for place in chosen])
        for place, row in zip(chosen, rows, strict=True):
            assert row == pytest.approx(expected[place], abs=0.02)
        engines_of_answers.add(served.classifier.engine.name)

    async def clients() -> None:
        number = rounds_with_another = 0
        while rounds_with_another < 20:
            await asyncio.gather(*(ask(client, number) for client in range(4)))
            number += 1
            rounds_with_another += Slow.name not in served.classifier.engine.name
            # Engines are measured while no text comes: ever longer, so that a pass fits in on a machine of any speed.
            await asyncio.sleep(0.01 * number)

    asyncio.run(clients())
    assert len(engines_of_answers) == 2
    assert served.healthy


@pytest.mark.usefixtures("likely_is_slow")
def test_a_pass_beside_which_a_text_came_is_measured_again(classifier: Classifier, tiny_model: Path) -> None:
    served = Inference(classifier)
    served.start(tiny_model, REFERENCE)
    runs = []

    def run() -> Logits:
        runs.append(served)
        if len(runs) == 1:
            asyncio.run(served.probabilities([tiny.review(1, 7)]))
        return classifier.scaled(classifier.made_up(8))

    served._timed_in_quiet(run)
    assert len(runs) == 2


def test_a_server_that_ends_while_it_measures_ends_as_any_other(tiny_model: Path, tmp_path: Path) -> None:
    with running(tiny_model, tmp_path / "log", "--engine=auto") as server:
        pass
    assert server.process.returncode == 0
    assert "Traceback" not in server.log.read_text()
