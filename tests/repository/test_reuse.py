"""Others use the stages in pipelines of their own: docs/reuse.md, to the letter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import components as kfp_components

from miniml import components, pipelines
from miniml.images import image
from miniml.pipeline.compiled import compiled_folder, component_names
from tests import patience, tiny
from tests.command import ROOT, pipeline
from tests.http_server import JsonHandler, LocalServer

PAGE = (ROOT / "docs" / "reuse.md").read_text(encoding="utf-8")
IMPORTS, TICKETS, HERE, NIGHTLY, FROM_FILE = re.findall(
    r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
)


class Compiled(LocalServer):
    """Serves the compiled components, as any web server does."""

    def handler(self) -> type[JsonHandler]:
        class Handler(JsonHandler):
            def answer(self, method: str) -> None:
                self.send_answer(200, (compiled_folder() / "components" / self.path.lstrip("/")).read_text())

        return Handler


def python(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )


def test_the_pages_pipeline_runs_their_steps_and_ours_on_their_data(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "tickets.py").write_text(TICKETS)
    tiny.write_reviews(tmp_path / "tickets.csv", rows=300)
    (tmp_path / "encoder").symlink_to(encoder)
    done = python(tmp_path, "-c", HERE)
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = float(re.findall(r"^accuracy (\d\.\d+)$", done.stdout, re.MULTILINE)[-1])
    assert accuracy > 0.8


def executors(compiled: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compiled["deploymentSpec"]["executors"]
    return found


def test_a_whole_pipeline_is_a_step_of_theirs(encoder: Path, tmp_path: Path) -> None:
    """As on the page, but for a learning rate that suits a tiny encoder, and few rows."""
    (tmp_path / "tickets.py").write_text(TICKETS)
    (tmp_path / "nightly.py").write_text(NIGHTLY.replace("1e-3", "1e-2, batch_size=16, iterations=60"))
    (tmp_path / "tables").mkdir()
    for name in ("2026-11-26.csv", "2026-11-27.csv"):
        tiny.write_reviews(tmp_path / "tables" / name, rows=300)
    (tmp_path / "encoder").symlink_to(encoder)
    here = HERE.replace("tickets import tickets", "nightly import nightly")
    done = python(tmp_path, "-c", here.replace('tickets(source="tickets.csv"', 'nightly(folder="tables"'))
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = float(re.findall(r"^accuracy (\d\.\d+)$", done.stdout, re.MULTILINE)[-1])
    assert accuracy > 0.8
    assert "tables/2026-11-27.csv" in done.stdout and "tables/2026-11-26.csv" not in done.stdout


def test_a_pipeline_within_theirs_keeps_what_its_pods_need_and_its_outputs(tmp_path: Path) -> None:
    (tmp_path / "tickets.py").write_text(TICKETS)
    (tmp_path / "nightly.py").write_text(NIGHTLY)
    script = (
        "import kfp; from nightly import nightly; kfp.compiler.Compiler().compile(nightly, 'nightly.yaml')"
    )
    done = python(tmp_path, "-c", script)
    assert done.returncode == 0, done.stderr
    theirs = list(yaml.safe_load_all((tmp_path / "nightly.yaml").read_text()))
    ours = list(yaml.safe_load_all((compiled_folder() / "text_classification.yaml").read_text()))
    assert executors(theirs[0]).items() >= executors(ours[0]).items()
    pods, our_pods = (spec[1]["platforms"]["kubernetes"] for spec in (theirs, ours))
    assert executors(pods).items() >= executors(our_pods).items()
    [told] = re.findall(r"Its outputs are (.*?)\. Whether", PAGE, re.DOTALL)
    assert {*re.findall(r"`(\w+)`", told)} == pipelines.text_classification.component_spec.outputs.keys()


def test_it_compiles_for_a_cluster_with_this_versions_images_from_ones_own_registry(tmp_path: Path) -> None:
    (tmp_path / "tickets.py").write_text(TICKETS)
    [command] = re.findall(r'^`python -c "(import kfp; .*?)"`', PAGE, re.MULTILINE | re.DOTALL)
    done = python(tmp_path, "-c", " ".join(command.split()), MINIML_REGISTRY="registry.example.com/ml")
    assert done.returncode == 0, done.stderr
    compiled = (tmp_path / "tickets.yaml").read_text()
    for stage in ("train", "evaluate"):
        assert image(stage).replace("localhost", "registry.example.com/ml") in compiled


def test_all_that_the_page_imports_is_there(tmp_path: Path) -> None:
    done = python(tmp_path, "-c", IMPORTS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", component_names())
def test_a_component_is_the_same_from_python_a_file_and_an_address(name: str, tmp_path: Path) -> None:
    file = compiled_folder() / "components" / f"{name}.yaml"
    ours = getattr(components, name)
    from_file = kfp_components.load_component_from_file(str(file))
    with Compiled() as served:
        from_url = kfp_components.load_component_from_url(f"{served.url}/{name}.yaml")
    assert ours.name == name
    assert ours.component_spec == from_file.component_spec == from_url.component_spec


def test_the_pages_last_way_loads_what_miniml_compile_writes(tmp_path: Path) -> None:
    assert pipeline("compile", "--folder", tmp_path / "compiled").status == 0
    done = python(tmp_path, "-c", FROM_FILE + "print(train.name)")
    assert done.stdout == "train\n", done.stderr


def test_a_pipeline_is_a_component_too() -> None:
    assert pipelines.text_classification.name == "text-classification"
    assert "space" in pipelines.hyperparameter_search.component_spec.inputs


def test_no_kfp_is_imported_before_a_component_is_asked_for(tmp_path: Path) -> None:
    script = (
        "import sys; from miniml import components, pipelines; print('kfp' in sys.modules); components.train"
    )
    assert python(tmp_path, "-c", f"{script}; print('kfp' in sys.modules)").stdout == "False\nTrue\n"
    assert dir(components) == sorted(component_names())
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        components.trian  # noqa: B018
