"""Defines the command `miniml`: it runs pipelines here and on a cluster, and serves, asks, compiles and publishes.

All commands read the compiled pipelines, so that they work alike in a checkout and with only the package installed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from miniml import __version__
from miniml.cli import cluster_commands, local_commands, predict, run_commands
from miniml.command_line import CommandParser, folder
from miniml.errors import MinimlError
from miniml.escaping import plain
from miniml.images import REGISTRY, TAG, registry, tag
from miniml.kubeflow.workflow_size import describe_size
from miniml.pipeline.build_settings import TRIALS_AT_ONCE, BuildSettings, trials_at_once
from miniml.pipeline.compiled import (
    HYPERPARAMETER_SEARCH,
    PIPELINES,
    TEXT_CLASSIFICATION,
    CompiledPipeline,
    component_names,
    component_text,
    file_name,
)
from miniml.pipeline.names import PROGRAM, program_of
from miniml.store import commands as store_commands

SHELLS = ("bash", "zsh", "tcsh")


def main(words: Sequence[str] | None = None) -> None:
    """Runs a command; an error that miniml raises ends it with the error's message and exit status 1.

    Args:
        words: The command's arguments, without the program's name; by default those of this process.
    """
    options = argparse.Namespace()
    try:
        options = command_line().parse_args(words)
        options.command(options)
    except MinimlError as error:
        _fail(f"\nerror: {error}")
    except BrokenPipeError:  # The reader has closed the pipe, as `head` does.
        os._exit(141)
    except OSError as error:  # A full disk, or a folder that is not writable.
        elsewhere = "--folder" if hasattr(options, "folder") else "--outputs"
        _fail(f"\nerror: {error}. Free some space, or write elsewhere: {elsewhere}.")
    except KeyboardInterrupt:
        _fail("\nstopped")


def command_line() -> CommandParser:
    """Returns the parser of the whole command line; the option `command` holds the function of the chosen command."""
    pipeline, search = (CompiledPipeline.named(name) for name in (TEXT_CLASSIFICATION, HYPERPARAMETER_SEARCH))
    parser = CommandParser(
        prog=PROGRAM,
        description=pipeline.description,
        epilog="miniml COMMAND --help tells more of each command.",
    )
    parser.add_argument("--version", action="version", version=f"miniml {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    local_commands.add(commands, pipeline)
    predict.add(commands)
    cluster_commands.add(commands, pipeline)
    run_commands.add(commands, pipeline)
    _add_search(commands, search)
    store_commands.add_group(commands)
    _add_compile(commands)
    _add_completion(commands, parser)
    return parser


def _add_search(commands: Any, search: CompiledPipeline) -> None:
    summary = "search for hyperparameters: run, submit and so on, of the pipeline that searches"
    searching = commands.add_parser("search", help=summary, description=search.description)
    assert searching.prog == program_of(search)
    actions = searching.add_subparsers(required=True, metavar="COMMAND")
    local_commands.add_run(actions, search)
    cluster_commands.add(actions, search)
    run_commands.add(actions, search)


def _add_compile(commands: Any) -> None:
    compiling = commands.add_parser(
        "compile",
        help="write the pipelines and their components as YAML, which Kubeflow's UI takes",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    compiling.add_argument("--folder", type=folder, default=Path("compiled"), help="where to write them")
    compiling.add_argument(
        "--registry", default=registry(), help=f"the registry of the images, or {REGISTRY}"
    )
    compiling.add_argument("--tag", default=tag(), help=f"the tag of the images, or {TAG}")
    compiling.add_argument(
        "--trials-at-once",
        type=int,
        default=trials_at_once(),
        help=f"how many trials of a search train beside each other, or {TRIALS_AT_ONCE}",
    )
    compiling.set_defaults(command=_compile)


def _compile(options: argparse.Namespace) -> None:
    build = BuildSettings(options.registry, options.tag, options.trials_at_once)
    for name in PIPELINES:
        text = CompiledPipeline.named(name, build).text
        print(f"{_write(options.folder / f'{file_name(name)}.yaml', text)} ({describe_size(text)})")
    for name in component_names():
        print(_write(options.folder / "components" / f"{name}.yaml", component_text(name, build)))


def _write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return os.path.relpath(path)


def _add_completion(commands: Any, parser: CommandParser) -> None:
    completing = commands.add_parser(
        "completion",
        help="print what completes this command in a shell",
        description='For bash: eval "$(miniml completion bash)", in ~/.bashrc, say.',
    )
    completing.add_argument("shell", choices=SHELLS, help="the shell that is to complete the command")
    completing.set_defaults(command=lambda options: _complete(parser, options.shell))


def _complete(parser: CommandParser, shell: str) -> None:
    import shtab  # Only here: no other command needs it.

    print(shtab.complete(parser, shell=shell))


def _fail(message: str) -> NoReturn:
    print(plain(message), file=sys.stderr)
    raise SystemExit(1)
