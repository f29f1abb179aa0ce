"""Defines compress: a fine-tuned model -> a smaller one that is not inferior on the validation rows, or none."""

from typing import Any

from kfp import dsl

from components.stage import stage
from miniml.settings.arguments import TAKEN_BY


@stage("train", TAKEN_BY["compress"])
def compress(
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    smaller: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    **settings: Any,
) -> None:
    """Makes smaller models of the fine-tuned one, and chooses the fastest that is not inferior. The test is not read.

    Args:
        dataset: The dataset that transform wrote.
        model: The model folder that train wrote.
        smaller: The chosen model's folder; a folder that says why, where no model was chosen.
        metrics: The figures of the chosen model; the artifact's file holds those of all candidates, as JSON.
        report: One page on all candidates.
    """
    from pathlib import Path

    from miniml.compression.watched import CompressionRequest, compress_watched
    from miniml.settings.arguments import settings_given
    from miniml.settings.compression import CompressionSettings

    [wanted] = settings_given(settings, CompressionSettings)
    # The local cache never finds an artifact without a file.
    files = (Path(report.path), Path(metrics.path))
    selection = compress_watched(
        CompressionRequest(
            Path(dataset.path), Path(model.path), Path(smaller.path), wanted, *files, model.uri
        )
    )
    for name, value in selection.scalars().items():
        metrics.log_metric(name, value)
    smaller.metadata.update(framework="transformers", max_loss=wanted.max_loss, **selection.of_chosen())
