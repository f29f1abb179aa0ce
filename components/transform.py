"""Defines transform: any source of labelled texts -> a checked and split dataset."""

from typing import Any

from kfp import dsl

from components.stage import stage
from miniml.settings.arguments import TAKEN_BY
from miniml.settings.training import TrainingSettings


@stage("transform", TAKEN_BY["transform"])
def transform(
    dataset: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    model_id: str = TrainingSettings.model_id,
    max_length: int = TrainingSettings.max_length,
    pins: str = "",
    **settings: Any,
) -> None:
    """Reads labelled texts, checks them, and splits them into train, validation and test.

    Args:
        dataset: A folder in Arrow format with the columns text and label, those that slice_columns names, and, with
            group_column, group (int64): one number for each group, and for each row without one.
        report: One page on the data: classes, lengths, and everything that the checks found.
        model_id: The model whose tokenizer measures the texts' lengths for the report.
        max_length: The most tokens of a text that this model will see.
        pins: The versions of dataset and model that preflight found, so that this run reads them, and the cache depends
            on them.
    """
    from pathlib import Path

    from miniml.data.preparation import prepare
    from miniml.data.report_request import ReportRequest
    from miniml.settings.arguments import settings_given
    from miniml.settings.data import DataSettings
    from miniml.sources.pins import Pins

    [wanted] = settings_given(settings, DataSettings)
    shown = ReportRequest(Path(report.path), model_id, max_length)
    summary = prepare(wanted, Path(dataset.path), shown, Pins.read(pins))
    dataset.metadata.update(summary.metadata())
