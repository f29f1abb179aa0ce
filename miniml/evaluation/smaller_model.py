"""Lets the smaller model that compress has chosen meet the test rows, beside the full model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miniml.evaluation.result import CompressedModel
from miniml.progress import logger

if TYPE_CHECKING:
    from miniml.evaluation.predictions import Predictions


@dataclass(frozen=True)
class SmallerModel:
    """A smaller model that may replace the full one, if the test shows that it is not inferior."""

    folder: Path
    """Its model folder."""
    max_loss: float
    """The margin of the test (see `miniml.settings.compression.CompressionSettings`)."""
    speed_ratio: float
    """How many times as fast as the full model it is."""


def compare_with_full(model: SmallerModel, smaller: Predictions, full: Predictions) -> CompressedModel:
    """Compares the answers of the two models to the test.

    Args:
        model: The smaller model.
        smaller: Its answers.
        full: The full model's, to the same rows.
    """
    test = smaller.compared_with_margin(full, model.max_loss)
    found = CompressedModel(smaller.model_digest, full.model_digest, test, model.speed_ratio)
    logger.info(found.sentence)
    return found
