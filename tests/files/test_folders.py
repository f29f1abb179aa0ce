"""What is kept goes where this user may write, and where nobody else may."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from miniml.errors import InputError, StorageError
from miniml.files.folders import (
    caches_of_libraries,
    locked,
    remove_abandoned,
    require_writable_file,
    user_cache,
    written_whole,
)
from miniml.local import runner
from tests import patience
from tests.command import ROOT, pipeline

NO_HOME = os.devnull
"""A home in which nothing can be made, not even by root."""


@pytest.fixture(autouse=True)
def _without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", NO_HOME)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("MINIML_CACHE", "XDG_CACHE_HOME", "HF_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_home_the_cache_is_a_folder_of_this_user_alone(tmp_path: Path) -> None:
    assert user_cache() == user_cache() == tmp_path / f"miniml-{os.getuid()}"
    assert user_cache().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", ["open", "link", "file", "elsewhere"])
def test_what_somebody_else_could_have_put_there_is_refused(planted: str, tmp_path: Path) -> None:
    folder = tmp_path / f"miniml-{os.getuid()}"
    if planted == "open":
        folder.mkdir()
        folder.chmod(0o777)
    elif planted == "file":
        folder.touch()
    else:
        (tmp_path / "theirs").mkdir()
        folder.symlink_to(tmp_path / ("theirs" if planted == "link" else "nowhere"))
    with pytest.raises(StorageError, match="Remove it, or set MINIML_CACHE"):
        user_cache()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder somebody else's")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / f"miniml-{os.getuid()}"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(StorageError, match="this user alone"):
        user_cache()


def test_libraries_keep_their_caches_with_ours_where_they_have_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / f"miniml-{os.getuid()}"
    assert caches_of_libraries()["HF_HUB_CACHE"] == str(ours / "hub")
    assert caches_of_libraries()["MINIML_CACHE"] == str(ours)
    monkeypatch.setenv("HF_HUB_CACHE", "/chosen")
    assert "HF_HUB_CACHE" not in caches_of_libraries()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert caches_of_libraries() == {}


def test_whoever_holds_a_folder_has_it_alone_and_leaves_nothing_of_an_empty_one(tmp_path: Path) -> None:
    folder = tmp_path / "kept" / "folder"

    def work() -> None:
        for _ in range(20):
            with locked(folder):
                (folder / "mine").touch(exist_ok=False)
                (folder / "mine").unlink()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert not any(folder.parent.iterdir())


def test_a_folder_that_another_holds_is_waited_for_as_long_as_was_said(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with locked(folder), ThreadPoolExecutor(1) as pool:

        def work() -> None:
            with locked(folder, max_wait=0):
                pass

        with pytest.raises(TimeoutError):
            pool.submit(work).result()
        assert folder.exists()
    assert not any(tmp_path.iterdir())


OURS = ("ours.json",)


def write(folder: Path, name: str = "ours.json") -> None:
    with written_whole(folder, OURS) as partial:
        (partial / name).write_text("new")


def test_an_earlier_output_is_replaced_and_so_is_an_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "folder"
    folder.mkdir(parents=True)
    write(folder)
    (folder / "more.txt").touch()
    write(folder)
    assert [path.name for path in folder.iterdir()] == ["ours.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize("name", ["theirs", "theirs/notes.txt"])
def test_what_is_not_ours_is_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    kept = tmp_path / "theirs" / "notes.txt"
    kept.write_text("mine")
    with pytest.raises(InputError, match="Name a new folder"):
        write(tmp_path / name)
    assert kept.read_text() == "mine"
    assert list(tmp_path.rglob("*")) == [kept.parent, kept]


def test_a_parent_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"model cannot be a folder, because .*/notes\.txt is a file\."):
        write(tmp_path / "notes.txt" / "deep" / "model")


def test_figures_are_computed_without_a_home(tmp_path: Path) -> None:
    script = (
        "from miniml.evaluation.scores import in_memory; "
        "from miniml.tasks.single_label.metrics import ClassificationScores; "
        "scores = ClassificationScores(**in_memory()); "
        "print(scores.compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[0, 1])['figures']['accuracy'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_folder_in_the_place_of_latest_is_told_before_any_work(
    reviews: Path, encoder: Path, tmp_path: Path
) -> None:
    (tmp_path / "latest").mkdir()
    ended = pipeline("run", "--outputs", tmp_path, "--dataset-id", reviews, "--model-id", encoder)
    assert ended.status == 1
    assert f"{tmp_path}/latest is a folder, and has the name of the link to the newest run" in ended.err
    assert "preflight" not in ended.out
    assert not runner.runs_of(tmp_path).exists()


def test_of_two_that_write_one_folder_the_second_waits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"

    def waits() -> bool:
        return "another process is writing" in capsys.readouterr().out

    with ThreadPoolExecutor(1) as pool:
        with written_whole(folder, OURS) as partial:
            second = pool.submit(write, folder)
            patience.wait_until(waits)
            (partial / "ours.json").write_text("old")
            (partial / "more.txt").touch()
        second.result()
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"ours.json": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_another_process_is_writing_is_not_taken_for_left_behind(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "file").touch()
    with locked(tmp_path / "held"):
        (tmp_path / "held" / "file").touch()
        for name in ("left", "held"):
            remove_abandoned(tmp_path / name)
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["held"]


def test_a_name_that_no_disk_takes_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written \(File name too long\)\. Name another path"):
        write(tmp_path / ("long" * 100))
    with pytest.raises(InputError, match=r"cannot be written \(File name too long\)\. Name another path"):
        require_writable_file("report", tmp_path / ("long" * 100))


@pytest.mark.parametrize("name", ["report.html", "deep/report.html", "sys"])
def test_a_file_system_that_refuses_files_is_told(name: str) -> None:
    """Such as /proc, even to root."""
    with pytest.raises(
        InputError, match=r"^report /proc/.* (cannot be written|is a folder).*Name a file elsewhere"
    ):
        require_writable_file("report", Path("/proc") / name)
    with pytest.raises((InputError, OSError)):
        write(Path("/proc") / name)


def test_the_check_of_a_file_leaves_nothing_behind_and_changes_nothing(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    require_writable_file("report", report)
    assert not any(tmp_path.iterdir())
    report.write_text("kept")
    require_writable_file("report", report)
    assert report.read_text() == "kept"
