"""transform: any source of labelled texts -> a checked, split dataset."""

from kfp import dsl

from miniml.images import image


@dsl.component(base_image=image("transform"), install_kfp_package=False)
def transform(
    dataset: dsl.Output[dsl.Dataset],
    dataset_id: str,
    text_column: str,
    label_column: str,
    label_names: str,
    row_filter: str,
    drop_empty_texts: bool,
    train_test_split_ratio: float,
    max_rows: int,
    seed: int,
) -> None:
    """Reads labelled texts, checks them, and splits them into train, validation and test.

    Args:
        dataset: A folder in Arrow format with the columns text and label.
        dataset_id: A hub id, a path, package://<package>/<file>, s3://<bucket>/<path> or s3://<bucket>/<name>@<version>.
        text_column: The column of the texts.
        label_column: The column of the classes.
        label_names: Names for the classes, comma-separated, in sorted order; "" keeps the source's.
        row_filter: column=value keeps only such rows; "" keeps all.
        drop_empty_texts: Leaves out rows without a text instead of failing.
        train_test_split_ratio: The share held out for the test, where the source has no test split.
        max_rows: The most rows to take; 0 takes all.
        seed: The same seed gives the same splits.
    """
    from pathlib import Path

    from miniml import data
    from miniml.settings import DataSettings
    from miniml.wording import without_placeholders

    summary = data.prepare(
        DataSettings(
            dataset_id=dataset_id,
            text_column=text_column,
            label_column=label_column,
            label_names=label_names,
            row_filter=row_filter,
            drop_empty_texts=drop_empty_texts,
            train_test_split_ratio=train_test_split_ratio,
            max_rows=max_rows,
            seed=seed,
        ),
        Path(dataset.path),
    )
    shown = {
        "source": summary.source,
        "fingerprint": summary.fingerprint,
        "labels": summary.labels,
        "rows": summary.rows,
    }
    dataset.metadata.update(without_placeholders(shown))
