"""Reports the progress of a run: a line whenever the state of a stage changes."""

from __future__ import annotations

import time
from collections.abc import Callable

from miniml.escaping import clipped, printable
from miniml.kubeflow.run_state import OVER, RunState, Turn
from miniml.progress import duration

# Argo's messages for a pod that is about to start.
_USUAL = frozenset({"PodInitializing", "ContainerCreating"})
# The most characters of a reason.
_LONGEST = 300


class RunReporter:
    """Prints what has changed since the last report."""

    def __init__(
        self, stages: list[str], show: Callable[[str], None], look_up: str, slow_start: float = 60.0
    ) -> None:
        """Reports about some stages.

        Args:
            stages: Their names, in the order in which they run.
            show: Prints a line.
            look_up: The command that shows why a pod does not start.
            slow_start: Seconds that a pod may take to start before `look_up` is printed.
        """
        self._stages, self._print, self._look_up, self._slow_start = stages, show, look_up, slow_start
        self._reported: dict[tuple[str, int], str] = {}
        self._waits_since: dict[tuple[str, int], float] = {}

    def report(self, run: RunState, *, final: bool) -> None:
        """Prints a line for each change; `final` says that this is the last report of this run."""
        for name, pod in run.stages.troubles.items():
            said = "failed" if pod.state == "FAILED" else "waiting"
            self._print_new((name, 0), f"{name} · {said}: {_short(pod.message)}", pod.message)
        for position, stage in enumerate(self._stages, 1):
            for turn in run.turns_of(stage):
                words = self._after_the_end(turn, run) if final else self._words(turn, run)
                self._print_new(
                    (stage, turn.number), f"[{position}/{len(self._stages)}] {turn} · {words}", words
                )

    def _print_new(self, key: tuple[str, int], line: str, words: str) -> None:
        if words not in ("", *_USUAL) and self._reported.get(key) != words:
            self._reported[key] = words
            self._print(line)

    def _after_the_end(self, turn: Turn, run: RunState) -> str:
        if turn.state in OVER:
            return self._words(turn, run)
        if run.stages.complete:
            return "skipped"
        return "unknown: Kubeflow Pipelines says no more of it"

    def _words(self, turn: Turn, run: RunState) -> str:
        match turn.state:
            case "CACHED":
                return "unchanged, taken from the cache"
            case "FAILED" if run.cancelled:
                return "cancelled"
            case "PENDING":
                return self._waiting(turn)
            case "RUNNING":
                return f"running{_earlier(turn)}"
            case "":
                return ""
        took = "" if turn.seconds is None else f" in {duration(turn.seconds)}"
        return turn.state.lower() + took

    def _waiting(self, turn: Turn) -> str:
        """Returns why a turn's pod has not started; empty while that is normal."""
        key = turn.stage, turn.number
        since = self._waits_since.setdefault(key, time.monotonic())
        if turn.message not in ("", *_USUAL):
            return f"waiting{_earlier(turn)}: {_short(turn.message)}"
        if time.monotonic() - since < self._slow_start:
            return f"running{_earlier(turn)}" if len(turn.attempts) > 1 else ""
        return f"its pod has not started; to see why: {self._look_up}"


def _earlier(turn: Turn) -> str:
    """Returns why the previous pod was replaced, if there was one."""
    if len(turn.attempts) < 2:
        return ""
    reason = _short(turn.attempts[-2].message) or "its pod was lost"
    return f", attempt {len(turn.attempts)} after: {reason}"


def _short(message: str) -> str:
    return clipped(printable(message.strip()), _LONGEST)
