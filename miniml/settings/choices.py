"""The settings that are one of a few words."""

from __future__ import annotations

from collections.abc import Sequence

from miniml.tasks.registry import TaskChoices

PRECISIONS = ("auto", "bf16", "fp32")

SCHEDULES = ("linear", "cosine", "constant")

BALANCED = "balanced"

CLASS_WEIGHTS = ("none", BALANCED)

LAST = "last"

BEST_BY = ("accuracy", "macro_f1", "loss", LAST)

TRUNCATION_SIDES = ("left", "right")

ORDERED_LABELS = ("auto", "yes", "no")

CONFLICT_RULES = ("drop", "majority", "refuse")

NEAR_DUPLICATE_RULES = ("drop", "report", "off")

AUTOSCALING_METRICS = ("cpu", "memory")
"""What Kubernetes' own autoscaler measures; the other two of KServe's are Knative's."""

CHOICES: dict[str, Sequence[str]] = {
    "task": TaskChoices(),
    "conflicting_labels": CONFLICT_RULES,
    "near_duplicates": NEAR_DUPLICATE_RULES,
    "schedule": SCHEDULES,
    "class_weights": CLASS_WEIGHTS,
    "best_by": BEST_BY,
    "precision": PRECISIONS,
    "truncation_side": TRUNCATION_SIDES,
    "ordered_labels": ORDERED_LABELS,
    "autoscaling_metric": AUTOSCALING_METRICS,
}
"""The settings that are one of a few words, and which."""
