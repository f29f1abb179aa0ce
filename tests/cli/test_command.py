"""The command `miniml` tells all that it can do, and a shell completes it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from miniml.cli.main import command_line
from miniml.pipeline.arguments import add_arguments, taken_by
from miniml.pipeline.compiled import PIPELINES, CompiledPipeline
from miniml.settings.command_line import add_options
from miniml.settings.training import TrainingSettings
from tests import patience
from tests.command import ROOT, pipeline
from tests.ports import free_port


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of all its commands, at every depth."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from parsers(command)


def test_every_option_of_every_command_says_what_it_is() -> None:
    every = list(parsers(command_line()))
    assert len(every) > 25
    mute = [
        f"{parser.prog} {'/'.join(action.option_strings) or action.dest}"
        for parser in every
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert mute == []


@pytest.mark.parametrize("name", PIPELINES)
def test_run_has_each_of_the_pipelines_arguments_below_its_stage(name: str) -> None:
    group = "miniml run" if name == "text-classification" else "miniml search run"
    [run] = [parser for parser in parsers(command_line()) if parser.prog == group]
    titles = {
        option: grouped.title
        for grouped in run._action_groups
        for action in grouped._group_actions
        for option in action.option_strings
    }
    arguments = taken_by(CompiledPipeline.named(name))
    assert {f"--{argument.replace('_', '-')}" for argument in arguments} <= titles.keys()
    assert titles["--label-column"] == "arguments of transform"
    assert titles["--learning-rate"] == "arguments of train"
    assert titles["--min-accuracy"] == "arguments of gate"


def test_a_training_process_describes_its_options_as_the_pipeline_does() -> None:
    training, running = argparse.ArgumentParser(), argparse.ArgumentParser()
    add_options(training, TrainingSettings)
    add_arguments(running, CompiledPipeline.named("text-classification"))
    helps = [
        {action.option_strings[0]: (action.metavar, action.help) for action in parser._actions}
        for parser in (training, running)
    ]
    del helps[0]["--seed"]  # Other stages take it too, and the first of them describes it.
    assert len(helps[0]) > 30
    assert helps[0].items() <= helps[1].items()


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_completes_commands_and_options(shell: str) -> None:
    ended = pipeline("completion", shell)
    assert ended.status == 0, ended.err
    assert "schedules" in ended.out
    assert "label-column" in ended.out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=ended.out, text=True, check=True)


def test_a_model_of_ones_own_is_served(model_dir: Path, tmp_path: Path) -> None:
    port = free_port()
    words = [
        "serve",
        "--model",
        model_dir,
        "--service-name=mine",
        "--port",
        port,
        "--outputs",
        tmp_path / "runs",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "miniml", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            patience.wait_until(lambda: is_ready(f"http://127.0.0.1:{port}/v2/models/mine/ready", process))
            asked = pipeline("predict", "--outputs", tmp_path / "runs", "great wonderful tasty")
            assert "-> good" in asked.out, asked.err
        finally:
            process.terminate()


def is_ready(address: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None
    try:
        return requests.get(address, timeout=patience.SECONDS).ok
    except requests.ConnectionError:
        return False


def test_an_empty_folder_does_not_stand_for_this_one() -> None:
    ended = pipeline("compile", "--folder", "")
    assert ended.status == 2
    assert "--folder: it is empty. Name a folder, or . for this one" in ended.err
