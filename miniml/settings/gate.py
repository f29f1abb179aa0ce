"""Settings of the gate: the rules that a model must pass to be deployed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.checks import require_share
from miniml.settings.field_types import FormField


@dataclass(frozen=True)
class GateSettings:
    """The rules that a model must pass to be deployed. A threshold is compared with the metric as it was measured."""

    min_accuracy: FormField[float] = 0.4
    """The smallest accuracy on the test rows, as a fraction. The default is twice the accuracy of guessing among five
    classes; choose your own. Where a text may have several labels, all of them must be correct (subset accuracy). A
    regression has no accuracy; set `min_metrics` instead."""
    min_metrics: FormField[str] = ""
    """The smallest values of other metrics of the evaluation: "macro_f1=0.7, mcc=0.4"."""
    max_calibration_error: float = 1.0
    """The largest average difference between confidence and accuracy, as a fraction (expected calibration error,
    corrected for noise); 1 allows any. A larger error passes where it may be noise alone."""
    min_slice_accuracy: float = 0.0
    """The smallest accuracy, as a fraction, on every slice of the test with at least `min_slice_rows` rows; 0 allows
    any."""
    beat_baseline: FormField[bool] = False
    """Whether the model must be significantly more accurate than the simple baseline of the report."""
    beat_majority: bool = True
    """Whether the model must be significantly more accurate than always predicting the most frequent label of the
    training rows. Turn it off where one class is so frequent that a useful model costs accuracy."""
    error_rate: float = 0.05
    """The significance level of the gate's tests, as a fraction: the largest probability that a model that is no better
    replaces the champion, over all challengers on one test set together; and that such a model counts as better than
    the baseline or the most frequent label."""
    min_gain: float = 0.0
    """The smallest gain in accuracy over the champion that is worth a deployment, as a fraction; for a regression, the
    fraction by which its mean absolute error must be below the champion's."""

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
        """The smallest values that `min_metrics` asks for, by the metric's name.

        Raises:
            InputError: `min_metrics` cannot be read.
        """
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
