"""What the console picks out of a run's output."""

from __future__ import annotations

import io
import textwrap

import pytest

from miniml.errors import LONGEST_ERROR
from miniml.local.console import Console

# As Python prints it, and kfp.local hands it on.
TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    read()\n    ^^^^^^\n{raised}\n'


def raised_by(output: str, indent: str = "    ") -> str | None:
    """What the console takes for the error of a stage that prints this, indented as kfp's runner for processes does."""
    console = Console(["transform"], io.StringIO(), io.StringIO())
    console.write(f"Executing task 'transform'\n{textwrap.indent(output, indent)}ended\n")
    return console.raised.get("transform")


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        ("miniml.errors.InputError: row 7 holds 5", "row 7 holds 5"),
        ("pyarrow.lib.ArrowInvalid: no such column", "pyarrow.lib.ArrowInvalid: no such column"),
        ("zlib.error: Error -3", "zlib.error: Error -3"),
        ("AssertionError", "AssertionError"),
        ("subprocess.TimeoutExpired: after 3 s", "subprocess.TimeoutExpired: after 3 s"),
    ],
)
def test_whatever_ends_a_traceback_is_what_was_raised(raised: str, error: str) -> None:
    for indent in ("", "    "):
        assert raised_by(TRACEBACK.format(raised=raised), indent) == error


def test_of_errors_one_behind_the_other_the_last_counts() -> None:
    first, last = (TRACEBACK.format(raised=each) for each in ("zlib.error: cause", "KeyError: 'effect'"))
    between = "\nThe above exception was the direct cause of the following exception:\n\n"
    assert raised_by(first + between + last) == "KeyError: 'effect'"


def test_an_error_of_any_length_is_told_in_a_few_lines() -> None:
    error = raised_by(TRACEBACK.format(raised="ValueError: " + "x" * 700_000))
    assert error is not None
    assert len(error) == LONGEST_ERROR + 1


def test_a_stage_that_prints_no_traceback_raised_nothing() -> None:
    assert raised_by("some library: all is well\n") is None
