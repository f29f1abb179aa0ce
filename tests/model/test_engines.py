"""Engines: the same answers at different speeds, and the choice among them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from miniml import processor
from miniml.errors import InputError
from miniml.evaluation.predictions import Predictions
from miniml.model import engines, manifest, probes
from miniml.model.classifier import Classifier
from miniml.model.engines import REFERENCE, TorchEngine
from serving.engine_choice import AUTO, STREAMS, EngineByShape, choose
from tests import families, tiny
from tests.command import ROOT

# It compiles for half a minute, which `make bench-serve` has and these tests have not.
COMPILED = "torch-compiled"


@pytest.fixture(scope="module")
def classifier(model_dir: Path) -> Classifier:
    return Classifier.load(model_dir)


def reference(classifier: Classifier) -> TorchEngine:
    assert isinstance(classifier.engine, TorchEngine)
    return classifier.engine


def test_every_engine_agrees_with_the_reference_on_texts_of_all_lengths(
    classifier: Classifier, model_dir: Path
) -> None:
    texts = [" ".join([tiny.review(number % 2, number)] * (number % 4)) for number in range(1_000)]
    expected = classifier.predict_probabilities(texts)
    available = engines.builders(engines.ServedModel(reference(classifier), model_dir, threads=2))
    assert {REFERENCE, "openvino-fp32"} <= available.keys()
    for name in available.keys() - {COMPILED}:
        found = classifier.on(available[name]()).predict_probabilities(texts)
        if name.endswith("fp32"):
            assert np.abs(found - expected).max() <= 1e-4, name
        assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.995, name


def test_auto_tries_every_engine_that_starts_quickly_and_shows_what_it_decided_from(
    classifier: Classifier, model_dir: Path
) -> None:
    choice = choose(classifier, model_dir, AUTO, threads=2)
    heads, *rows = choice.measurements.splitlines()
    assert "1×16 ms" in heads
    available = engines.builders(engines.ServedModel(reference(classifier), model_dir, threads=2))
    assert [row.split()[0] for row in rows] == [name for name in available if name != COMPILED]
    assert sum("for" in row and "single texts" in row for row in rows) == 1
    assert sum("batches" in row for row in rows) == 1
    assert choice.tokens_per_second > 0


def test_two_streams_run_at_the_same_time_and_answer_as_one_engine_does(
    classifier: Classifier, model_dir: Path
) -> None:
    choice = choose(classifier, model_dir, "openvino-fp32", threads=2)
    assert len(choice.streams) == STREAMS
    texts = [tiny.review(number % 2, number) for number in range(200)]
    expected = classifier.predict_probabilities(texts)
    with ThreadPoolExecutor(STREAMS) as threads:
        found = list(threads.map(lambda stream: stream.predict_probabilities(texts), choice.streams))
    for probabilities in found:
        assert np.abs(probabilities - expected).max() <= 1e-4


@pytest.mark.parametrize(("engine", "threads"), [("openvino-fp32", 1), (REFERENCE, 2)])
def test_one_thread_or_an_engine_that_cannot_be_halved_has_one_stream(
    classifier: Classifier, model_dir: Path, engine: str, threads: int
) -> None:
    choice = choose(classifier, model_dir, engine, threads=threads)
    assert choice.streams == [choice.classifier]


def test_a_processor_that_is_told_to_do_with_less_has_no_bf16() -> None:
    script = "import torch; from miniml.processor import has_bf16; print(has_bf16(torch.device('cpu')))"
    capped = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=capped, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_a_cap_takes_from_a_processor_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    built_in = processor.features()
    assert not processor.is_capped()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert processor.features() == tuple(feature for feature in built_in if feature == "avx2")
    assert processor.is_capped() == (built_in not in ((), ("avx2",)))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "no such instructions")
    assert processor.features() == built_in


def test_an_engine_can_be_asked_for_by_name(classifier: Classifier, model_dir: Path) -> None:
    assert choose(classifier, model_dir, "openvino-fp32", threads=2).classifier.engine.name == "openvino-fp32"
    with pytest.raises(InputError, match=r"engine 'onnx' is not to be had here\. Choose auto, torch-fp32, "):
        choose(classifier, model_dir, "onnx", threads=2)


@pytest.mark.parametrize("wrong", [0.5, math.nan])
def test_an_engine_that_answers_otherwise_is_refused(
    classifier: Classifier, model_dir: Path, tmp_path: Path, wrong: float
) -> None:
    changed = Classifier.load(model_dir)
    model = reference(changed).model
    model.classifier.bias.data[0] += wrong
    assert engines.export(model, tmp_path)
    with pytest.raises(InputError, match=r"engine 'openvino-fp32' differs from torch-fp32 by .* Choose auto"):
        choose(classifier, tmp_path, "openvino-fp32", threads=2)
    choice = choose(classifier, tmp_path, AUTO, threads=2)
    assert "refused" in choice.measurements
    assert "torch" in choice.classifier.engine.name


def test_a_model_that_no_converter_knows_is_served_by_torch_and_that_is_shown(tmp_path: Path) -> None:
    folder = families.write_classifier(tmp_path / "model", "xlm")
    classifier = Classifier.load(folder)
    choice = choose(classifier, folder, AUTO, threads=2)
    assert "openvino-fp32    cannot run this model: " in choice.measurements
    assert "torch" in choice.classifier.engine.name
    with pytest.raises(
        InputError, match=r"'openvino-fp32' cannot run this model .* Choose auto or torch-fp32"
    ):
        choose(classifier, folder, "openvino-fp32", threads=2)


@pytest.mark.parametrize("words", [families.WORDS, [*families.SPECIAL, *"abcdefgh"], families.SPECIAL])
def test_engines_are_tried_on_made_up_texts_of_any_vocabulary(words: list[str], tmp_path: Path) -> None:
    folder = families.write_classifier(tmp_path / "model", "bert")
    families.write_tokenizer(folder, words=words, model_max_length=60)
    manifest.sign(folder, data={}, arguments={}, versions={}, metrics={})
    made_up = Classifier.load(folder).made_up(0, 1, 16, 100)
    assert [len(ids) for ids in made_up] == [2, 2, 16, 60]
    assert {(int(ids[0]), int(ids[-1])) for ids in made_up} == {(2, 3)}


def test_single_texts_and_batches_may_go_to_different_engines(classifier: Classifier) -> None:
    single, batched = TorchEngine("one", reference(classifier).model), classifier.engine
    engine = EngineByShape(single, batched)
    assert engine.name == "one and torch-fp32"
    texts = ["good", "bad food"]
    together = classifier.on(engine).predict_probabilities(texts)
    alone = np.concatenate([classifier.on(engine).predict_probabilities([text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-5)


def test_training_leaves_the_model_exported_and_signed(model_dir: Path) -> None:
    exported = engines.exported(model_dir)
    assert exported is not None
    names = {exported.relative_to(model_dir).as_posix(), "openvino/openvino_model.bin", probes.PROBES_NAME}
    assert names <= manifest.verify(model_dir).files.keys()


def test_engines_are_compared_on_the_texts_that_the_model_is_least_sure_of(
    classifier: Classifier, tmp_path: Path
) -> None:
    texts = [tiny.review(number % 2, number) for number in range(probes.CANDIDATES + 10)]
    probes.write(tmp_path, classifier.engine, classifier.encode(texts))
    kept = [classifier.run([ids]).max() for ids in probes.read(tmp_path)]
    assert len(kept) == probes.PROBES
    surest = np.sort(classifier.predict_probabilities(texts[: probes.CANDIDATES]).max(axis=1))
    assert kept == pytest.approx(surest[: probes.PROBES].tolist(), abs=1e-5)
    assert probes.read(tmp_path / "elsewhere") == []


def test_converting_a_model_tells_nobody(classifier: Classifier) -> None:
    engines.convert(reference(classifier).model)
    assert sys.modules["openvino_telemetry"] is None
    assert "openvino.tools.ovc.telemetry_stub" in sys.modules


@pytest.mark.skipif("MINIML_EXPECT_DEMO" not in os.environ, reason="asks what `make run` left in .ci/run")
def test_the_engine_that_is_chosen_answers_a_thousand_reviews_as_they_were_evaluated() -> None:
    latest = ROOT / "local_outputs" / "latest"
    evaluated = Predictions.read(latest / "predictions.parquet")
    chosen = choose(Classifier.load(latest / "model"), latest / "model", AUTO, threads=2).classifier
    found = chosen.predict_probabilities(evaluated.texts)
    assert len(found) >= 1000
    assert (found.argmax(axis=1) == evaluated.predicted).mean() >= 0.995
    assert np.abs(found - evaluated.probabilities).max() <= 0.02
