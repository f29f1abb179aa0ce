"""What a model must reach to be deployed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.checks import require_share
from miniml.settings.field_types import FormField


@dataclass(frozen=True)
class GateSettings:
    """What a model must reach to be deployed. A threshold is reached by the figure as it was measured."""

    min_accuracy: FormField[float] = 0.4
    """The least accuracy on the test rows, as a fraction. Of five classes, twice what guessing gets; every job has its
    own, and `beat_majority` asks for more than guessing of any. Where a text may have several labels, all of them must
    be right (subset accuracy); a regression has none, and `min_metrics` says what it must reach."""
    min_metrics: FormField[str] = ""
    """Least values of further figures of the evaluation: "macro_f1=0.7, mcc=0.4"."""
    max_calibration_error: float = 1.0
    """The most by which confidence and accuracy may differ on average (expected calibration error, freed of noise).
    More is let through where it may be noise alone. 1 asks nothing."""
    min_slice_accuracy: float = 0.0
    """The least accuracy on every slice of the test that the evaluation finds large enough; 0 asks nothing."""
    beat_baseline: FormField[bool] = False
    """Whether the model must be more accurate than the report's simple baseline, beyond chance."""
    beat_majority: bool = True
    """Whether the model must be more accurate than always giving training's most frequent answer, beyond chance. Leave
    it out where one class is so frequent that a useful model costs accuracy."""
    error_rate: float = 0.05
    """How often, at most, a champion loses its place to a model that is no better, by all challengers on one test
    together; and how often such a model passes for better than the baseline or the most frequent answer."""
    min_gain: float = 0.0
    """The least gain in accuracy over the champion, as measured, that is worth a deployment; of a regression, the
    share by which its mean absolute error must be below the champion's."""

    def __post_init__(self) -> None:
        require_share("min_accuracy", self.min_accuracy)
        require_share("max_calibration_error", self.max_calibration_error)
        require_share("min_slice_accuracy", self.min_slice_accuracy)
        require_share("min_gain", self.min_gain)
        if not 0 < self.error_rate <= 0.5:
            raise InputError(
                f"error_rate is {self.error_rate}; it must be above 0 and at most 0.5, which a coin would do. "
                f"0.05 lets through 1 in 20 of those that are no better."
            )
        _ = self.least  # Refuses what cannot be read.

    @property
    def least(self) -> dict[str, float]:
        """`min_metrics` by name."""
        found: dict[str, float] = {}
        for entry in filter(None, (part.strip() for part in self.min_metrics.split(","))):
            name, equals, value = (part.strip() for part in entry.partition("="))
            try:
                least = float(value)
            except ValueError:
                least = math.nan
            if not (name and equals and math.isfinite(least)) or name in found:
                raise InputError(
                    f"min_metrics {shown(self.min_metrics)} cannot be read at {shown(entry)}. Write each metric "
                    f"once, with its least value, and commas between: macro_f1=0.7, mcc=0.4."
                )
            found[name] = least
        return found
