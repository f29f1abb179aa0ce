"""Commands that are written wrongly: one line that says what, the nearest name, and where help is."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from miniml.pipeline.arguments import add_arguments, defaults, given_arguments, preset_of
from miniml.pipeline.compiled import TEXT_CLASSIFICATION, CompiledPipeline
from miniml.pipeline.presets import PRESETS
from tests.command import ROOT, pipeline

PIPELINE = CompiledPipeline.named(TEXT_CLASSIFICATION)


def refused(*words: str, module: str = "miniml") -> str:
    """The error of a command, which is one line and all that is said."""
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("--help")
    return line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--preset", "dmo"], '--preset "dmo" is none of demo, long-reviews; did you mean demo?'),
        (["run", "--bach-size", "3"], 'no option "--bach-size"; did you mean --batch-size?'),
        (["run", "--batch_size=3"], 'no option "--batch_size"; did you mean --batch-size?'),
        (["run", "--epoch", "3"], 'no option "--epoch"; did you mean --epochs?'),
        (["run", "hello"], 'no argument "hello"'),
        (["run", "--epochs", "three"], "--epochs: invalid int value: 'three'"),
        (["pedict", "fine"], "did you mean predict?"),
        (["schedule"], "required: --cron"),
    ],
)
def test_a_wrong_word_is_named_with_its_nearest_neighbour(words: list[str], message: str) -> None:
    assert message in refused(*words)


def test_other_commands_of_ours_say_it_likewise() -> None:
    assert "did you mean publish?" in refused("pblish", "folder", "s3://a/b@1", module="miniml.store")
    assert "did you mean --epochs?" in refused("data", "model", "--epoks=1", module="miniml.train_step")


def test_a_word_cannot_reach_the_terminal_as_a_control_sequence() -> None:
    assert "\x1b" not in refused("run", "--\x1b[31mred")


def test_an_error_stays_short_whatever_was_written() -> None:
    assert len(refused("run", "--epochs", "9" * 5_000 + "x")) < 800


def test_help_still_tells_all_there_is() -> None:
    ended = pipeline("run", "--help")
    assert ended.status == 0
    assert "--batch-size" in ended.out


def preset(*words: str) -> tuple[str, dict[str, object]]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--default-preset")
    add_arguments(parser, PIPELINE)
    options = parser.parse_args(["--default-preset", "demo", *words])
    return preset_of(options), given_arguments(PIPELINE, options)


def test_arguments_of_make_run_add_to_the_demo_unless_they_name_other_data() -> None:
    name, arguments = preset("--max-rows", "100")
    assert name == "demo"
    assert arguments == arguments_of_demo() | {"max_rows": 100}
    assert preset("--model-id", "owner/name")[1] == arguments_of_demo() | {"model_id": "owner/name"}
    assert preset("--preset", "long-reviews")[0] == "long-reviews"
    name, arguments = preset("--dataset-id", "reviews.csv")
    assert name == ""
    assert arguments == defaults(PIPELINE) | {"dataset_id": "reviews.csv"}


def arguments_of_demo() -> dict[str, object]:
    return defaults(PIPELINE) | PRESETS["demo"].arguments


def test_make_hands_its_arguments_on_beside_the_demo() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "run", "-o", "setup", "ARGS=--max-rows 100"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert "--default-preset demo --max-rows 100" in done.stdout
