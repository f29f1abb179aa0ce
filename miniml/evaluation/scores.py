"""The metrics of some answers, as a local module of `evaluate` computes them: nothing is fetched from a hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from miniml.evaluation.result import ClassScores, Figure
from miniml.files.folders import user_cache


def in_memory() -> dict[str, Any]:
    """How a module of `evaluate` is made that writes nothing; a folder it makes all the same, and gets one of ours."""
    return {"keep_in_memory": True, "cache_dir": str(user_cache() / "evaluate")}


@dataclass(frozen=True)
class Scores:
    """The figures of some answers."""

    figures: dict[str, Figure]
    classes: list[ClassScores] = field(default_factory=list)
    confusion_matrix: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, computed: dict[str, Any], labels: Sequence[str] = ()) -> Scores:
        """What a module of metrics has computed."""
        return cls(
            {name: Figure(*figure) for name, figure in computed["figures"].items()},
            [
                ClassScores(label, **of_label)
                for label, of_label in zip(labels, computed.get("per_class", []), strict=True)
            ],
            computed.get("confusion_matrix", []),
        )
