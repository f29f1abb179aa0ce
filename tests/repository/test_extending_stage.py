"""An argument and a stage are added as CONTRIBUTING.md says, and as others add theirs to a pipeline of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import patience, tiny
from tests.command import ROOT, Ended
from tests.stages import STAGES


def python(*words: str | Path, folder: Path) -> Ended:
    """Runs Python with the modules of `folder`, before all others."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def code_of(document: Path) -> Iterator[tuple[str, str, str]]:
    """The language, the file and the text of each block of code that names a file in its first line."""
    for indent, kind, block in re.findall(
        r"^( *)```(\w+)\n(.*?)^ *```$", document.read_text(encoding="utf-8"), re.M | re.S
    ):
        text = re.sub(f"^{indent}", "", block, flags=re.M)
        if named := re.match(r"# (\S+\.py)\n", text):
            yield kind, named[1], text[named.end() :]


def apply(difference: str, path: Path) -> None:
    """Puts the lines with a plus into the file, after the one above them, which is there once."""
    above, *added = difference.splitlines(keepends=True)
    assert all(line.startswith("+") for line in added)
    text = path.read_text(encoding="utf-8")
    assert text.count(above[1:]) == 1, above
    path.write_text(
        text.replace(above[1:], above[1:] + "".join(line[1:] for line in added)), encoding="utf-8"
    )


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository to which all has been done that CONTRIBUTING.md's example says."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("miniml", "components", "pipelines", "serving"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for kind, name, text in code_of(ROOT / "CONTRIBUTING.md"):
        if kind == "diff":
            apply(text, folder / name)
        else:
            assert not (folder / name).exists(), f"{name} is taken"
            (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def compiled(extended: Path) -> Path:
    ended = python("-m", "pipelines", "compile", folder=extended)
    assert ended.status == 0, ended.err
    return extended / "pipelines" / "compiled"


def test_the_examples_names_are_free_and_its_code_is_as_ours() -> None:
    assert not (ROOT / "tests" / "evaluation" / "test_examples.py").exists()
    blocks = [(name, text) for kind, name, text in code_of(ROOT / "CONTRIBUTING.md") if kind == "python"]
    assert len(blocks) == 3
    for name, text in blocks:
        words = ["-m", "ruff", "format", "--diff", f"--stdin-filename={ROOT / name}", "-"]
        formatted = subprocess.run([sys.executable, *words], input=text, capture_output=True, text=True)
        assert formatted.stdout == "", formatted.stdout


def test_the_new_argument_is_told_wherever_arguments_are(extended: Path, compiled: Path) -> None:
    description = "How many of the test's texts are shown beside the model's answers."
    shown = " ".join(
        python("-m", "pipelines.text_classification", "run", "--help", folder=extended).out.split()
    )
    assert f"--shown-examples 10 {description}" in shown
    spec = next(yaml.safe_load_all((compiled / "text_classification.yaml").read_text()))
    assert f"| `shown_examples` | options | `10` | {description} |" in spec["pipelineInfo"]["description"]
    component = (compiled / "components" / "examples.yaml").read_text()
    assert "An object of other settings by name: shown_examples." in component


def test_the_new_stage_runs_with_its_argument(
    extended: Path, compiled: Path, reviews: Path, encoder: Path, tmp_path: Path
) -> None:
    words = [f"--dataset-id={reviews}", f"--model-id={encoder}", "--label-names=bad,good", "--max-length=32"]
    words += ["--iterations=2", "--min-accuracy=0", "--no-beat-majority", f"--outputs={tmp_path}"]
    ended = python(
        "-m", "pipelines.text_classification", "run", *words, "--shown-examples=3", folder=extended
    )
    assert ended.status == 0, ended.out + ended.err
    assert f"/{len(STAGES) + 1}] examples" in ended.out
    [page] = (tmp_path / "latest").resolve().glob("artifacts/*/examples/page")
    head, _, *rows = page.read_text().splitlines()
    assert head == "| text | label | predicted |"
    assert len(rows) == 3


SETTINGS = '''
    from dataclasses import dataclass
    from typing import Literal

    from miniml.settings.field_types import FormField


    @dataclass(frozen=True)
    class CountSettings:
        split: FormField[str] = "train"
        """The split whose texts are counted."""
        unit: Literal["texts", "words"] = "texts"
        """What is counted."""
'''
PIPELINE = """
    import sys
    from typing import Any

    from kfp import dsl, local

    from components.stage import stage
    from components.transform import transform
    from their_settings import CountSettings


    @stage("transform", (CountSettings,))
    def count(dataset: dsl.Input[dsl.Dataset], **settings: Any) -> int:
        from datasets import load_from_disk
        from miniml.settings.arguments import settings_given
        from their_settings import CountSettings

        [what] = settings_given(settings, CountSettings)
        texts = load_from_disk(dataset.path)[what.split]["text"]
        return len(texts) if what.unit == "texts" else sum(len(text.split()) for text in texts)


    @dsl.pipeline
    def counted(source: str) -> int:
        data = transform(dataset_id=source)
        return count(dataset=data.outputs["dataset"], split="test", options={"unit": "words"}).output


    if __name__ == "__main__":
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root="outputs")
        print("words:", counted(source=sys.argv[1]).output)
"""


def test_a_stage_with_arguments_is_made_outside_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "their_settings.py").write_text(textwrap.dedent(SETTINGS))
    (tmp_path / "their_pipeline.py").write_text(textwrap.dedent(PIPELINE))
    source = tiny.write_reviews(tmp_path / "reviews.csv", rows=60)
    ended = python("their_pipeline.py", source, folder=tmp_path)
    assert ended.status == 0, ended.out + ended.err
    # A fifth of the texts, of ten words each.
    assert ended.out.splitlines()[-1] == f"words: {60 // 5 * 10}"
