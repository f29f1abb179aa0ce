"""What the stages after compress do with its model: the evaluated one is deployed, whichever of the two that is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from miniml.compression.layers import keep_layers
from miniml.model import manifest
from tests.command import ROOT

PIPELINE = """
import sys

import kfp.local
from kfp import dsl

from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from miniml.images import image


@dsl.component(base_image=image("gate"), install_kfp_package=False)
def data(folder: str, dataset: dsl.Output[dsl.Dataset]):
    import shutil

    shutil.copytree(folder, dataset.path)


@dsl.component(base_image=image("gate"), install_kfp_package=False)
def made(folder: str, max_loss: float, model: dsl.Output[dsl.Model]):
    import shutil

    shutil.copytree(folder, model.path)
    model.metadata.update(max_loss=max_loss, speed_ratio=2.1)


@dsl.component(base_image=image("gate"), install_kfp_package=False)
def nobody(record: dsl.Output[dsl.Artifact]):
    from pathlib import Path

    from miniml.champion.record import NOBODY

    NOBODY.save(Path(record.path))


@dsl.pipeline(name="smaller")
def smaller(dataset: str, full: str, small: str, max_loss: float):
    rows = data(folder=dataset)
    trained = made(folder=full, max_loss=0.0)
    compressed = made(folder=small, max_loss=max_loss)
    champion = nobody()
    rules = {"min_accuracy": 0.0, "options": {"beat_majority": False}}
    evaluation = evaluate(dataset=rows.output, model=trained.output, compressed=compressed.output)
    verdict = gate(metrics=evaluation.outputs["metrics"], champion=champion.output, **rules)
    deploy(
        model=trained.output,
        compressed=compressed.output,
        metrics=evaluation.outputs["metrics"],
        champion=champion.output,
        verdict=verdict.outputs["verdict"],
        approved=verdict.outputs["Output"],
        **rules,
    )


kfp.local.init(kfp.local.SubprocessRunner(use_venv=False), pipeline_root="outputs")
dataset, full, small, max_loss = sys.argv[1:]
smaller(dataset=dataset, full=full, small=small, max_loss=float(max_loss))
"""


@pytest.mark.parametrize(("max_loss", "is_served"), [(0.99, True), (0.001, False)])
def test_the_model_that_was_evaluated_is_the_one_that_is_deployed(
    max_loss: float, is_served: bool, model_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    keep_layers(model_dir, [0], tmp_path / "small")
    (tmp_path / "smaller.py").write_text(PIPELINE)
    words = map(str, ("smaller.py", dataset_dir, model_dir, tmp_path / "small", max_loss))
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [written] = tmp_path.glob("outputs/*/deploy/inference_service")
    service = yaml.safe_load(written.read_text())
    evaluated = tmp_path / "small" if is_served else model_dir
    assert service["metadata"]["annotations"]["miniml/model-digest"] == manifest.read(evaluated).digest
    deployed = Path(service["spec"]["predictor"]["model"]["storageUri"].removeprefix("file://"))
    assert manifest.verify(deployed).digest == manifest.read(evaluated).digest
    [verdict] = tmp_path.glob("outputs/*/gate/verdict")
    assert ("2.1 × as fast: shown to lose less" in verdict.read_text()) is is_served
