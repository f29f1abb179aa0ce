"""The wheel serves a person who has no repository: its command, its components, its predictor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from miniml import __version__
from tests import patience
from tests.command import ROOT

CARRIED = {"miniml": "miniml", "pipelines/compiled": "miniml/compiled", "serving": "miniml/serving"}
"""What of the repository is in it, and where."""
DATA = {".html", ".md", ".css", ".js", ".svg", ".yaml"}
BUILT_FROM = ("miniml", "pipelines", "serving", "pyproject.toml", "README.md", "LICENSE")


def done(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # None of the tests' own ways to the repository's modules.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `python -m build` does, from a copy without what git ignores."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(ROOT / name, source / name)
    words: list[str | Path] = [
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        folder,
    ]
    built = done(sys.executable, *words, ".", cwd=source)
    assert built.returncode == 0, built.stderr
    [file] = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs are of an environment that has the wheel, and the libraries of these tests by their folder."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True)
    [packages] = environment.glob("lib/python*/site-packages")
    words: list[str | Path] = [
        "-m",
        "pip",
        "--python",
        environment / "bin" / "python",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
    ]
    installed = done(sys.executable, *words, wheel, cwd=environment)
    assert installed.returncode == 0, installed.stderr
    libraries = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "libraries.pth").write_text("\n".join(libraries))
    return environment / "bin"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """An empty folder."""
    return tmp_path


def python(bin_folder: Path, here: Path, script: str) -> str:
    # -P: what is in the folder is not imported.
    ended = done(bin_folder / "python", "-P", "-c", script, cwd=here)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_it_installs_nothing_beside_miniml(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"miniml", f"miniml-{__version__}.dist-info"}


def test_it_carries_all_that_is_no_python(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, place in CARRIED.items():
        wanted = [path for path in (ROOT / folder).rglob("*") if path.suffix in DATA]
        assert wanted
        assert {f"{place}/{path.relative_to(ROOT / folder)}" for path in wanted} <= names
    assert "miniml/py.typed" in names


def test_its_extras_are_those_that_the_error_messages_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        metadata = Parser().parsestr(opened.read(f"miniml-{__version__}.dist-info/METADATA").decode())
    assert {"local", "cli", "serve", "transform", "train", "evaluate"} <= set(
        metadata.get_all("Provides-Extra", [])
    )


def test_the_modules_are_the_wheels_own(bin_folder: Path, here: Path) -> None:
    found = python(bin_folder, here, "import miniml; print(miniml.__file__)")
    assert Path(found).is_relative_to(bin_folder.parent)
    script = "from importlib.util import find_spec; print(find_spec('miniml.serving.__main__').origin)"
    assert Path(python(bin_folder, here, script)).is_relative_to(bin_folder.parent)


def test_the_command_tells_its_version(bin_folder: Path, here: Path) -> None:
    assert done(bin_folder / "miniml", "--version", cwd=here).stdout == f"miniml {__version__}\n"
    assert (
        done(bin_folder / "python", "-m", "miniml", "--version", cwd=here).stdout == f"miniml {__version__}\n"
    )


@pytest.mark.parametrize("command", ["run", "search submit", "serve"])
def test_every_command_helps(command: str, bin_folder: Path, here: Path) -> None:
    ended = done(bin_folder / "miniml", *command.split(), "--help", cwd=here)
    assert ended.returncode == 0, ended.stderr
    assert f"usage: miniml {command} " in ended.stdout


def test_it_compiles_what_the_repository_holds(bin_folder: Path, here: Path) -> None:
    ended = done(bin_folder / "miniml", "compile", cwd=here)
    assert ended.returncode == 0, ended.stderr
    committed = ROOT / "pipelines" / "compiled"
    for path in committed.rglob("*.yaml"):
        assert (here / "compiled" / path.relative_to(committed)).read_text() == path.read_text()


def test_a_component_comes_from_python(bin_folder: Path, here: Path) -> None:
    assert python(bin_folder, here, "from miniml.components import train; print(train.name)") == "train"


def test_what_is_served_is_the_wheels_own_predictor(bin_folder: Path, here: Path) -> None:
    script = "from miniml.local.ask import predictor_module; print(predictor_module())"
    assert python(bin_folder, here, script) == "miniml.serving"


def test_without_its_extras_the_command_says_which_to_install(wheel: Path, tmp_path: Path) -> None:
    """In an environment that has nothing but the wheel."""
    venv.create(tmp_path / "bare", symlinks=True)
    [packages] = (tmp_path / "bare").glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    ended = done(tmp_path / "bare" / "bin" / "python", "-m", "miniml", "run", cwd=tmp_path)
    assert ended.returncode == 1
    assert "pip install 'miniml[local]'" in ended.stderr
    assert "Traceback" not in ended.stderr
