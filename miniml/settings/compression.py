"""Settings of the compression: which smaller models are made of the fine-tuned one, and when one may replace it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from miniml.errors import InputError
from miniml.settings.checks import (
    require_at_least,
    require_between,
    require_choices,
    require_max_loss,
    require_share,
)

TEMPERATURES = (0.01, 1000.0)
"""The range of the temperature: beyond it, single precision has no digits left for the answers' differences."""


@dataclass(frozen=True)
class CompressionSettings:
    """Which smaller models are made of the fine-tuned one, and when one of them may replace it."""

    compression: Literal["none", "auto", "layers", "length", "int8"] = "none"
    """Which smaller models are tried: with fewer "layers", trained to give the full model's answers; with a shorter
    maximal "length" of a text, where texts are longer; with weights and activations of 8 bits, "int8", where NNCF is
    installed and the processor has AVX512-VNNI; "auto" for all of them and their combinations, or "none"."""
    max_loss: float = 0.005
    """The largest loss of the primary metric at which a smaller model may replace the full one: a fraction of the rows
    for an accuracy; for a regression, the fraction by which the mean absolute error may be above the full model's."""
    student_layers: int = 0
    """The number of encoder layers of the smaller model; 0 tries half of the full model's layers, and a third."""
    distillation_epochs: int = 3
    """The number of passes over the training rows in which a smaller model learns the full model's answers. The
    training's `time_limit` holds for each smaller model."""
    distillation_temperature: float = 2.0
    """The temperature of the full model's answers as a training target: above 1, small probabilities count more.
    (Hinton et al., "Distilling the Knowledge in a Neural Network", https://arxiv.org/abs/1503.02531)"""
    distillation_weight: float = 0.5
    """The weight of the full model's answers in the loss, as a fraction; the true labels have the rest."""
    distillation_learning_rate: float = 0.0
    """The highest learning rate of a smaller model; 0 takes the full model's."""

    def __post_init__(self) -> None:
        require_choices(self)
        require_max_loss(self.max_loss)
        require_at_least("student_layers", self.student_layers, 0, "0 tries half of the layers, and a third.")
        require_at_least("distillation_epochs", self.distillation_epochs, 1)
        require_between("distillation_temperature", self.distillation_temperature, *TEMPERATURES, "2")
        require_share("distillation_weight", self.distillation_weight)
        rate = self.distillation_learning_rate
        if not (math.isfinite(rate) and rate >= 0):
            raise InputError(
                f"distillation_learning_rate is {rate}; it must be above 0, 5e-5 say, or 0 for the full model's."
            )
