"""A model in int8: bound to its engine, so that what was evaluated is what is served."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from miniml.champion.record import Champion
from miniml.compression.candidates import make_candidates
from miniml.compression.quantization import UnquantizableError, quantize
from miniml.compression.selection import select
from miniml.data import prepared
from miniml.errors import ChampionError, InputError
from miniml.evaluation.evaluate import evaluate_model
from miniml.evaluation.report import write_report
from miniml.evaluation.result import EvaluationResult
from miniml.evaluation.smaller_model import SmallerModel
from miniml.gate.rules import judge
from miniml.model import manifest, quick_start
from miniml.model.classifier import Classifier
from miniml.model.engines import INT8, INT8_BF16, QUANTIZED, REFERENCE
from miniml.model.history import read_history
from miniml.preflight.run_plan import plan_run
from miniml.processor import has_fast_bf16, has_fast_int8
from miniml.settings.compression import CompressionSettings
from miniml.settings.gate import GateSettings
from serving.engine_choice import AUTO, choose, choose_at_once
from tests import tiny
from tests.command import ROOT
from tests.model.test_quick_start import signed

ENGINE = INT8_BF16 if has_fast_bf16() else INT8

needs_vnni = pytest.mark.skipif(not has_fast_int8(), reason="this processor has no AVX512-VNNI")


def take_away(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has this machine lack a library, or the processor its instructions."""
    if lacking == "AVX512-VNNI":
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    else:
        monkeypatch.setitem(sys.modules, lacking.lower(), None)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Reviews of several lengths, so that batches have padding."""
    return [" ".join([tiny.review(number % 2, number)] * (1 + number % 3)) for number in range(60)]


@pytest.fixture(scope="module")
def quantized(dataset_dir: Path, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not has_fast_int8():
        pytest.skip("this processor has no AVX512-VNNI")
    folder = tmp_path_factory.mktemp("quantized") / "int8"
    quantize(dataset_dir, model_dir, folder)
    return folder


def test_a_quantized_model_is_signed_with_its_engine_and_figures_of_its_own(
    dataset_dir: Path, model_dir: Path, quantized: Path
) -> None:
    signed, full = manifest.verify(quantized), manifest.read(model_dir)
    assert signed.digest != full.digest
    assert signed.engine == ENGINE
    assert full.engine == ""
    assert str(QUANTIZED) in signed.files
    assert "openvino/openvino_model.xml" not in signed.files
    assert signed.files["model.safetensors"] == full.files["model.safetensors"]
    assert signed.files["quick_start.json"] != full.files["quick_start.json"]
    assert signed.arguments["quantized"]["digest"] == full.digest
    validation = prepared.load(dataset_dir, ("validation",))[0]["validation"]
    probabilities = Classifier.load(quantized).predict_probabilities(validation["text"][:])
    right = probabilities.argmax(axis=1) == np.array(validation["label"][:])
    assert signed.metrics["validation_accuracy"] == np.mean(right)
    assert sys.modules["openvino_telemetry"] is None
    assert f"by\nthe engine {ENGINE} only" in (quantized / "README.md").read_text()


def test_whoever_loads_it_gets_the_answers_of_int8(
    model_dir: Path, quantized: Path, texts: list[str]
) -> None:
    loaded, full = Classifier.load(quantized), Classifier.load(model_dir)
    assert loaded.engine.name == ENGINE
    ids = full.encode(texts)
    difference = np.abs(loaded.logits(ids) - full.logits(ids)).max()
    assert 0 < difference < 0.5


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("with_torch", [True, False])
def test_it_is_served_as_it_is_loaded_and_by_no_other_engine(
    quantized: Path, texts: list[str], at_once: bool, with_torch: bool
) -> None:
    evaluated = Classifier.load(quantized)
    begun = evaluated if with_torch else quick_start.load(quantized)
    choice = (
        choose_at_once(begun, quantized, threads=2) if at_once else choose(begun, quantized, AUTO, threads=2)
    )
    assert choice.classifier.engine.name == ENGINE
    assert choice.pads
    assert not choice.is_guess
    for served in (choice.classifier, *choice.streams):
        assert np.array_equal(served.predict_probabilities(texts), evaluated.predict_probabilities(texts))
    with pytest.raises(InputError, match=f"'{REFERENCE}' is not to be had here. Choose auto, {ENGINE}"):
        choose(begun, quantized, REFERENCE, threads=2)


def test_a_server_of_it_imports_neither_torch_nor_nncf(quantized: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from miniml.model import quick_start\n"
        "from serving.engine_choice import choose_at_once; folder = Path(sys.argv[1])\n"
        "choice = choose_at_once(quick_start.load(folder), folder, 2)\n"
        "choice.classifier.predict(['a text']); print(choice.classifier.engine.name)\n"
        "print({'torch', 'transformers', 'nncf'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(quantized)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [ENGINE, "set()"]


def test_a_machine_whose_answers_are_others_does_not_serve_it(quantized: Path, tmp_path: Path) -> None:
    def as_if_from_elsewhere(folder: Path) -> None:
        path = folder / quick_start.QUICK_START_NAME
        content = json.loads(path.read_text())
        content["batches"][0]["logits"][0][0] += 1
        path.write_text(json.dumps(content))

    folder = signed(tmp_path / "model", quantized, as_if_from_elsewhere)
    with pytest.raises(InputError, match="answers otherwise here than where the model was made"):
        choose_at_once(quick_start.load(folder), folder, threads=1)
    with pytest.raises(InputError, match="answers otherwise here than where the model was made"):
        choose(Classifier.load(folder), folder, AUTO, threads=1)


@pytest.mark.parametrize("load", [Classifier.load, quick_start.load])
@pytest.mark.parametrize("lacking", ["OpenVINO", "AVX512-VNNI"])
def test_an_engine_that_this_machine_has_not_is_named(
    quantized: Path, load: object, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_away(lacking, monkeypatch)
    assert callable(load)
    with pytest.raises(
        InputError, match=f"bound to the engine '{ENGINE}', .* not to be had here: it needs OpenVINO"
    ):
        load(quantized)


def test_bfloat16_is_part_of_the_engines_name(
    dataset_dir: Path, model_dir: Path, quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    assert quantize(dataset_dir, model_dir, tmp_path / "int8").engine == INT8
    if ENGINE == INT8_BF16:
        with pytest.raises(
            InputError, match="a processor with avx512_vnni and bfloat16; this one has avx512_vnni"
        ):
            Classifier.load(quantized)


def test_a_smaller_model_is_quantized_too_and_compared_on_its_own_engine(
    dataset_dir: Path, model_dir: Path, tmp_path: Path, quantized: Path
) -> None:
    settings = CompressionSettings(compression="auto", distillation_epochs=1)
    made = make_candidates(dataset_dir, model_dir, tmp_path, settings)
    assert [(one.name, one.description) for one in made] == [
        ("layers-1", "1 of 2 layers"),
        ("int8", "int8"),
        ("layers-1-int8", "1 of 2 layers, int8"),
    ]
    found = select(dataset_dir, model_dir, made, max_loss=0.5)
    assert [one.engine for one in found.candidates[1:]] == [ENGINE, ENGINE]
    assert [one.layers for one in found.candidates] == [1, 2, 1]
    assert found.candidates[1].digest == manifest.read(quantized).digest


@needs_vnni
def test_without_nncf_the_remedy_is_named(
    dataset_dir: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_away("NNCF", monkeypatch)
    with pytest.raises(UnquantizableError, match=r"pip install 'miniml\[int8\]'.*TRAIN_EXTRAS=int8"):
        make_candidates(dataset_dir, model_dir, tmp_path, CompressionSettings(compression="int8"))


@pytest.mark.parametrize("lacking", [pytest.param("NNCF", marks=needs_vnni), "AVX512-VNNI"])
def test_a_run_that_will_lack_something_for_int8_does_not_begin(
    tmp_path: Path, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_away(lacking, monkeypatch)
    arguments = {"dataset_id": "a", "model_id": "b", "options": {"compression": "int8"}}
    with pytest.raises(InputError, match=f"compression is int8. int8 needs .*{lacking}"):
        plan_run(arguments, tmp_path / "report.md")


def test_what_is_in_int8_already_is_not_compressed_again(
    dataset_dir: Path, quantized: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"is in int8, bound to the engine '{ENGINE}'.* that train wrote"):
        make_candidates(dataset_dir, quantized, tmp_path, CompressionSettings(compression="layers"))


def test_where_its_engine_is_missing_the_full_model_is_evaluated_and_the_reason_told(
    dataset_dir: Path,
    model_dir: Path,
    quantized: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    smaller = SmallerModel(quantized, max_loss=0.99, speed_ratio=1.5)
    met = evaluate_model(model_dir, dataset_dir, smaller=smaller)
    assert (met.model_digest, met.left_out) == (manifest.read(quantized).digest, "")
    assert met.speed is not None
    assert met.speed.engine == ENGINE

    take_away("AVX512-VNNI", monkeypatch)
    result = evaluate_model(model_dir, dataset_dir, smaller=smaller)
    assert result.model_digest == manifest.read(model_dir).digest
    assert result.figures == evaluate_model(model_dir, dataset_dir).figures
    assert result.compressed is None
    assert result.left_out.startswith("smaller model: left out, and the full model is evaluated, because ")
    assert f"bound to the engine '{ENGINE}'" in result.left_out
    assert result.left_out in capsys.readouterr().out
    result.save(tmp_path / "metrics")
    verdict = judge(EvaluationResult.read(tmp_path / "metrics"), GateSettings(0.0, beat_majority=False))
    assert result.left_out in verdict.reasons
    write_report(result, manifest.read(model_dir), read_history(model_dir), tmp_path / "report.html")
    assert "Smaller model: left out" in (tmp_path / "report.html").read_text()


def test_a_champion_whose_engine_is_missing_is_named_with_the_remedy(
    dataset_dir: Path, model_dir: Path, quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = Champion(manifest.read(quantized).digest, str(quantized))
    take_away("AVX512-VNNI", monkeypatch)
    with pytest.raises(ChampionError, match=r"the champion at .* cannot answer here: .*Set champion=none"):
        evaluate_model(model_dir, dataset_dir, champion=champion)


@pytest.mark.parametrize("lacking", [pytest.param("NNCF", marks=needs_vnni), "AVX512-VNNI"])
def test_auto_leaves_int8_out_in_one_line_where_it_cannot_be_made(
    dataset_dir: Path,
    model_dir: Path,
    tmp_path: Path,
    lacking: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    take_away(lacking, monkeypatch)
    settings = CompressionSettings(compression="auto", distillation_epochs=1)
    [only] = make_candidates(dataset_dir, model_dir, tmp_path, settings)
    assert only.name == "layers-1"
    [line] = [line for line in capsys.readouterr().out.splitlines() if " int8" in line]
    assert "no candidate in int8: int8 needs" in line
    assert lacking in line
