"""transform: any source of labelled texts -> a checked, split dataset."""

from kfp import dsl

from miniml.images import image


@dsl.component(base_image=image("transform"), install_kfp_package=False)
def transform(
    dataset: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    dataset_id: str,
    text_column: str,
    label_column: str,
    label_names: str,
    task: str,
    label_separator: str,
    row_filter: str,
    group_column: str,
    slice_columns: str,
    fix_encoding: bool,
    strip_html: bool,
    strip_control_characters: bool,
    drop_empty_texts: bool,
    drop_unlabelled: bool,
    max_characters: int,
    drop_long_texts: bool,
    min_rows_per_class: int,
    drop_rare_classes: bool,
    conflicting_labels: str,
    near_duplicates: str,
    near_duplicate_threshold: float,
    train_test_split_ratio: float,
    max_rows: int,
    model_id: str,
    max_length: int,
    seed: int,
) -> None:
    """Reads labelled texts, checks them, and splits them into train, validation and test.

    Args:
        dataset: A folder in Arrow format with the columns text and label, those that slice_columns names, and, with
            group_column, group (int64): one number for each group, and for each row without one.
        report: One page on what is in the data: classes, lengths, and everything that the checks found.
        dataset_id: A hub id, a path, package://<package>/<file>, s3://<bucket>/<path> or s3://<bucket>/<name>@<version>.
        text_column: The column of the texts.
        label_column: The column of the classes.
        label_names: Names for the classes, comma-separated, in sorted order; "" keeps the source's.
        task: single_label_classification, multi_label_classification, regression, or auto: what the labels tell.
        label_separator: What stands between several labels in one string: "|"; "" knows none.
        row_filter: column=value keeps only such rows; "" keeps all.
        group_column: Rows that read alike in it (an author, a product) come into one split, and rows without a value
            each stand alone; "" knows no groups.
        slice_columns: Columns to carry along, comma-separated, by which evaluation cuts the test.
        fix_encoding: Mends UTF-8 that was read as Latin-1 or Windows-1252, and Windows-1252 that was read as Latin-1.
        strip_html: Takes HTML's tags out, and resolves its entities.
        strip_control_characters: Takes control characters out, but for tabs and line ends.
        drop_empty_texts: Leaves out rows without a text instead of failing.
        drop_unlabelled: Leaves out rows without a label instead of failing.
        max_characters: Longer texts are reported; 0 knows no limit.
        drop_long_texts: Leaves them out.
        min_rows_per_class: A class with fewer distinct texts is an error.
        drop_rare_classes: Leaves such classes out instead.
        conflicting_labels: One text under two labels: drop all its rows, keep the majority's, or refuse.
        near_duplicates: drop those across splits from training and validation, report them only, or off.
        near_duplicate_threshold: The Jaccard similarity, by word triples, from which two texts are near-duplicates.
        train_test_split_ratio: The share held out for the test, where the source has no test split.
        max_rows: The most rows to take; 0 takes all.
        model_id: The model in whose tokens the report measures lengths.
        max_length: The tokens of a text that it will see.
        seed: The same seed gives the same splits.
    """
    from pathlib import Path

    from miniml.data.preparation import ReportRequest, prepare
    from miniml.settings import DataSettings
    from miniml.wording import without_placeholders

    summary = prepare(
        DataSettings(
            dataset_id=dataset_id,
            text_column=text_column,
            label_column=label_column,
            label_names=label_names,
            task=task,
            label_separator=label_separator,
            row_filter=row_filter,
            group_column=group_column,
            slice_columns=slice_columns,
            fix_encoding=fix_encoding,
            strip_html=strip_html,
            strip_control_characters=strip_control_characters,
            drop_empty_texts=drop_empty_texts,
            drop_unlabelled=drop_unlabelled,
            max_characters=max_characters,
            drop_long_texts=drop_long_texts,
            min_rows_per_class=min_rows_per_class,
            drop_rare_classes=drop_rare_classes,
            conflicting_labels=conflicting_labels,
            near_duplicates=near_duplicates,
            near_duplicate_threshold=near_duplicate_threshold,
            train_test_split_ratio=train_test_split_ratio,
            max_rows=max_rows,
            seed=seed,
        ),
        Path(dataset.path),
        ReportRequest(Path(report.path), model_id, max_length),
    )
    shown = {
        "source": summary.source,
        "fingerprint": summary.fingerprint,
        "task": str(summary.task),
        "labels": summary.labels,
        "numbers": summary.numbers,
        "rows": summary.rows,
        "rows_per_class": summary.rows_per_class,
        "rows_read": summary.rows_read,
        "not_drawn": summary.not_drawn,
        "found": summary.found,
        "dropped": summary.dropped,
        "cleaned": summary.cleaned,
        "lengths": summary.lengths,
        "length_unit": summary.length_unit,
    }
    dataset.metadata.update(without_placeholders(shown))
