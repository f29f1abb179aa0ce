"""Holds the metrics that a local module of the `evaluate` library computes; nothing is fetched from a hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from miniml.evaluation.result import ClassScores, Estimate
from miniml.files.folders import user_cache


def in_memory() -> dict[str, Any]:
    """Returns the arguments of an `evaluate` module that writes no file.

    It makes an empty folder nevertheless, which these arguments put into our cache.
    """
    return {"keep_in_memory": True, "cache_dir": str(user_cache() / "evaluate")}


@dataclass(frozen=True)
class Scores:
    """The metrics of some answers."""

    figures: dict[str, Estimate]
    classes: list[ClassScores] = field(default_factory=list)
    confusion_matrix: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, computed: dict[str, Any], labels: Sequence[str] = ()) -> Scores:
        """Builds the scores from a metrics module's result.

        Args:
            computed: The result of its `compute`.
            labels: The names of the classes that its `per_class` is about.
        """
        return cls(
            {name: Estimate(*figure) for name, figure in computed["figures"].items()},
            [
                ClassScores(label, **of_label)
                for label, of_label in zip(labels, computed.get("per_class", []), strict=True)
            ],
            computed.get("confusion_matrix", []),
        )
