"""Whoever has the compiled pipelines alone gets from them what compiling their Python elsewhere gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from miniml.errors import InputError
from miniml.pipeline.build_settings import BuildSettings, with_build_settings
from miniml.pipeline.compiled import HYPERPARAMETER_SEARCH, PIPELINES, CompiledPipeline, compiled_folder
from tests.command import ROOT, pipeline

ELSEWHERE = {
    "MINIML_REGISTRY": "registry.example.com/ml",
    "MINIML_IMAGE_TAG": "ours-2",
    "MINIML_TRIALS_AT_ONCE": "8",
}


BUILD = BuildSettings("registry.example.com/ml", "ours-2", 8)


def written(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.yaml")}


def test_the_environment_says_the_same_of_compiled_yaml_as_of_the_python_it_comes_from(
    tmp_path: Path,
) -> None:
    words = [sys.executable, "-m", "pipelines", "compile", "--folder", str(tmp_path / "python")]
    subprocess.run(words, cwd=ROOT, env={**os.environ, **ELSEWHERE}, capture_output=True, check=True)
    ended = pipeline("compile", "--folder", tmp_path / "yaml", **ELSEWHERE)
    assert ended.status == 0, ended.err
    assert written(tmp_path / "yaml") == written(tmp_path / "python")


def test_options_say_what_the_environment_does(tmp_path: Path) -> None:
    named = ("--registry=registry.example.com/ml", "--tag=ours-2", "--trials-at-once=8")
    assert pipeline("compile", "--folder", tmp_path, *named).status == 0
    text = (tmp_path / "hyperparameter_search.yaml").read_text()
    assert text == CompiledPipeline.named(HYPERPARAMETER_SEARCH, BUILD).text


@pytest.mark.parametrize("name", PIPELINES)
def test_there_and_back_is_the_committed_text(name: str) -> None:
    committed = CompiledPipeline.named(name).text
    elsewhere = with_build_settings(committed, BUILD)
    assert elsewhere != committed
    assert with_build_settings(elsewhere, BuildSettings.of_environment()) == committed
    assert committed in [path.read_text() for path in compiled_folder().glob("*.yaml")]


@pytest.mark.parametrize("number", ["0", "many", "-1", ""])
def test_a_number_of_trials_that_is_none_is_refused(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIML_TRIALS_AT_ONCE", number)
    with pytest.raises(InputError, match="MINIML_TRIALS_AT_ONCE is"):
        CompiledPipeline.named(HYPERPARAMETER_SEARCH)
    assert (
        "error: MINIML_TRIALS_AT_ONCE"
        in pipeline("search", "run", "--help", MINIML_TRIALS_AT_ONCE=number).err
    )


@pytest.mark.parametrize(
    ("registry", "tag", "named"),
    [
        ("registry.example.com/ml/", "1", "registry"),
        ("https://registry.example.com", "1", "registry"),
        ("", "1", "registry"),
        ("registry.example.com:5000/ml", "not a tag", "tag"),
        ("localhost", "", "tag"),
    ],
)
def test_what_cannot_be_in_an_images_name_is_refused(registry: str, tag: str, named: str) -> None:
    with pytest.raises(InputError, match=f"^{named} "):
        BuildSettings(registry, tag)


def test_a_folder_that_cannot_be_written_is_told_with_the_option_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    ended = pipeline("compile", "--folder", tmp_path / "taken")
    assert ended.status == 1
    assert "--folder" in ended.err and "--outputs" not in ended.err
