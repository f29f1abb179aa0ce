"""transform: any source of labelled texts -> a checked, split dataset."""

from typing import Any

from kfp import dsl

from components.stage import stage


@stage("transform")
def transform(
    dataset: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    dataset_id: str = "Yelp/yelp_review_full",
    text_column: str = "text",
    label_column: str = "label",
    label_names: str = "",
    task: str = "auto",
    max_rows: int = 1000,
    seed: int = 42,
    model_id: str = "google-bert/bert-base-cased",
    max_length: int = 256,
    options: dict[str, Any] = {},
    pins: str = "",
) -> None:
    """Reads labelled texts, checks them, and splits them into train, validation and test.

    Args:
        dataset: A folder in Arrow format with the columns text and label, those that slice_columns names, and, with
            group_column, group (int64): one number for each group, and for each row without one.
        report: One page on what is in the data: classes, lengths, and everything that the checks found.
        model_id: The model in whose tokens the report measures lengths.
        max_length: The tokens of a text that it will see.
        options: Other settings of miniml.settings.data.DataSettings, by name.
        pins: What preflight found dataset and model to be, so that this run reads that, and a cache goes by it.
    """
    given = locals()
    from pathlib import Path

    from miniml.data.preparation import prepare
    from miniml.data.report_request import ReportRequest
    from miniml.settings.arguments import settings_given
    from miniml.settings.data import DataSettings
    from miniml.sources.pins import Pins

    [settings] = settings_given(given, DataSettings)
    shown = ReportRequest(Path(report.path), model_id, max_length)
    summary = prepare(settings, Path(dataset.path), shown, Pins.read(pins))
    dataset.metadata.update(summary.metadata())
