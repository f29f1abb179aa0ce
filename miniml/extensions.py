"""Offers all that a package of one's own needs to add a metric, a gate rule, a source, a task or an engine to miniml.

    from miniml.extensions import Metric, register_metric

    register_metric(Metric("kappa", "Cohen's kappa", score=...))

A package that is installed beside miniml, in a stage's image or on a laptop, is found without an import, by its entry
points. In its pyproject.toml:

    [project.entry-points."miniml.metrics"]
    kappa = "their_package.kappa"

where `their_package.kappa` calls `register_metric` when it is imported. A stage's image gets the package by one line of
a Dockerfile that begins with our image: `RUN pip install their-package`. docs/how-to/extend.md has an example of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from miniml.lazy_imports import lazy_names

if TYPE_CHECKING:
    from miniml.champion.record import Champion
    from miniml.evaluation.result import EvaluationResult
    from miniml.gate.rules import Ruling, register_rule
    from miniml.metrics import Answers, Metric, register_metric
    from miniml.model.engines import Engine, EngineKind, Logits, ServedModel, TokenIds, register_engine
    from miniml.settings.gate import GateSettings
    from miniml.sources.address import register_source
    from miniml.sources.source import Fetched, FetchedSplits, Mount, Pinned, Source
    from miniml.task import Task
    from miniml.task_registry import register_task

__all__ = [
    "Answers",
    "Champion",
    "Engine",
    "EngineKind",
    "EvaluationResult",
    "Fetched",
    "FetchedSplits",
    "GateSettings",
    "Logits",
    "Metric",
    "Mount",
    "Pinned",
    "Ruling",
    "ServedModel",
    "Source",
    "Task",
    "TokenIds",
    "register_engine",
    "register_metric",
    "register_rule",
    "register_source",
    "register_task",
]

_NAMES = {
    "miniml.champion.record": ("Champion",),
    "miniml.evaluation.result": ("EvaluationResult",),
    "miniml.gate.rules": ("Ruling", "register_rule"),
    "miniml.metrics": ("Answers", "Metric", "register_metric"),
    "miniml.model.engines": ("Engine", "EngineKind", "Logits", "ServedModel", "TokenIds", "register_engine"),
    "miniml.settings.gate": ("GateSettings",),
    "miniml.sources.address": ("register_source",),
    "miniml.sources.source": ("Fetched", "FetchedSplits", "Mount", "Pinned", "Source"),
    "miniml.task": ("Task",),
    "miniml.task_registry": ("register_task",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

# Only an engine needs torch, for example.
__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
