"""Memory is watched where the kernel would kill the one that watches together with the child."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from miniml.supervision.memory_events import killed_in_time, oom_kills


@pytest.mark.parametrize(
    ("own", "file", "content"),
    [
        ("0::/\n", "memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
        ("0::/kubepods/pod1/main\n", "kubepods/pod1/main/memory.events", "oom_kill 2\n"),
        ("0::/not/seen/here\n", "memory.events", "oom_kill 2\n"),
        ("4:cpu:/a\n9:memory:/a\n", "memory/a/memory.oom_control", "under_oom 0\noom_kill 2\n"),
        ("9:memory:/a\n", "memory/memory.oom_control", "oom_kill_disable 0\noom_kill 2\n"),
        ("", "nothing", ""),
        ("9:memory:/\n", "memory/memory.oom_control", "of an old kernel\n"),
    ],
)
def test_what_the_kernel_has_killed_is_counted(own: str, file: str, content: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(content)
    (tmp_path / "own").write_text(own)
    assert oom_kills(tmp_path, tmp_path / "own") == content.count("oom_kill 2") * 2


def test_where_the_kernel_would_kill_the_one_that_watches_too_the_child_is_ended_before(
    tmp_path: Path,
) -> None:
    """As in a pod of Kubernetes, whose memory.oom.group is 1."""
    (tmp_path / "memory.oom.group").write_text("1\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    stat = tmp_path / "memory.stat"
    for kept, ended in (("anon 900000\nfile 90000\nshmem 0\n", False), ("anon 900000\nshmem 90000\n", True)):
        stat.write_text(kept)
        script = "input()" if ended else "pass"
        child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
        assert killed_in_time(child, tmp_path, tmp_path / "no-such-file") is ended
        assert child.returncode == (-signal.SIGKILL if ended else 0)
        assert child.stdin
        child.stdin.close()


def test_elsewhere_memory_is_the_kernel_s_business(tmp_path: Path) -> None:
    (tmp_path / "memory.oom.group").write_text("0\n")
    (tmp_path / "memory.max").write_text("10\n")
    (tmp_path / "memory.stat").write_text("anon 10\n")
    child = subprocess.Popen([sys.executable, "-c", ""])
    assert not killed_in_time(child, tmp_path, tmp_path / "no-such-file")
