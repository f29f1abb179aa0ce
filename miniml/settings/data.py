"""Settings of the data: which rows to take, how to clean them and how to split them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.checks import require_at_least, require_choices, require_fraction, require_seed
from miniml.settings.choices import TaskName
from miniml.settings.field_types import FormField
from miniml.task_registry import AUTO, find_task


@dataclass(frozen=True)
class DataSettings:
    """Which rows to take, how to clean them and how to split them."""

    dataset_id: FormField[str] = "Yelp/yelp_review_full"
    """The dataset: a hub id, a path, package://<package>/<file>, s3://<bucket>/<path> or
    s3://<bucket>/<name>@<version>."""
    text_column: FormField[str] = "text"
    """The column with the texts."""
    label_column: FormField[str] = "label"
    """The column with the labels."""
    label_names: FormField[str] = ""
    """Names of the classes, comma-separated, in the order of the sorted labels; "" keeps the names of the source."""
    task: FormField[TaskName] = "auto"
    """The task, as transformers names it: single_label_classification, multi_label_classification or regression;
    "auto" infers it from the labels. Lists mean multi_label_classification, numbers with a fraction regression; whole
    numbers and words are classes."""
    label_separator: str = ""
    """The separator between the labels of one text, where a column has them as one string: "|" reads "toxic|insult" as
    two labels; "" means no separator. An empty string in the column has no label. A separator makes the task
    multi_label_classification."""
    row_filter: str = ""
    """`column=value` keeps only the rows with this value in this column; "" keeps all rows."""
    group_column: str = ""
    """The column of groups (an author, a product) whose rows all go to the same split; "" means no groups. Each row
    without a value is a group of its own."""
    slice_columns: str = ""
    """Columns to keep, comma-separated, by whose values evaluation reports metrics on slices of the test rows."""
    fix_encoding: bool = False
    """Repairs wrongly decoded texts, "cafÃ©" to "café": UTF-8 that was read as Latin-1 or Windows-1252, and dashes and
    quotation marks of Windows-1252 that were read as control characters of Latin-1."""
    strip_html: bool = False
    """Replaces HTML tags by a space, and HTML entities by their character."""
    strip_control_characters: bool = False
    """Removes control characters from the texts, except tabs and line ends."""
    drop_empty_texts: bool = False
    """Leaves out rows without a text instead of failing."""
    drop_unlabelled: bool = False
    """Leaves out rows without a label instead of failing."""
    max_characters: int = 100_000
    """The most characters of a text: a longer one is reported, or left out with `drop_long_texts`; 0 sets no limit. The
    server has the same limit."""
    drop_long_texts: bool = False
    """Leaves out texts of more than `max_characters` characters."""
    min_rows_per_class: int = 3
    """The smallest number of distinct texts of a class: a smaller class is an error, or left out with
    `drop_rare_classes`."""
    drop_rare_classes: bool = False
    """Leaves out classes with fewer than `min_rows_per_class` distinct texts instead of failing."""
    conflicting_labels: Literal["drop", "majority", "refuse"] = "drop"
    """What happens to a text that occurs with different labels: "drop" leaves out all its rows, "majority" the rows of
    the rarer label, and "refuse" ends with an error. No label is ever changed."""
    near_duplicates: Literal["drop", "report", "off"] = "drop"
    """What happens to training and validation texts that nearly repeat a test text: "drop" leaves them out, "report"
    only counts them, "off" does not look for them."""
    near_duplicate_threshold: float = 0.7
    """The Jaccard similarity of two texts' word triples, from 0.3 to 1, from which on they are near-duplicates: the
    triples in both texts, as a fraction of those in either."""
    train_test_split_ratio: float = 0.2
    """The fraction of the rows that is held out for the test, where the source has no test split."""
    validation_split_ratio: float = 0.1
    """The fraction of the training rows that is held out for validation."""
    max_rows: FormField[int] = 1000
    """The most rows to take, training and test together; 0 takes all rows."""
    seed: FormField[int] = 42
    """The random seed: the same seed gives the same splits, search and, on the same machine, model."""

    def __post_init__(self) -> None:
        require_fraction("train_test_split_ratio", self.train_test_split_ratio)
        require_fraction("validation_split_ratio", self.validation_split_ratio)
        require_at_least("max_rows", self.max_rows, 0, "Use 0 to take every row.")
        require_seed(self.seed)
        require_at_least("max_characters", self.max_characters, 0, "Use 0 for no limit.")
        require_at_least(
            "min_rows_per_class", self.min_rows_per_class, 3, "Each of the three splits needs one."
        )
        require_choices(self)
        if self.task != AUTO:
            find_task(self.task).check_data_settings(self)
        if not 0.3 <= self.near_duplicate_threshold <= 1:
            raise InputError(
                f"near_duplicate_threshold is {self.near_duplicate_threshold}; it must lie between 0.3 and 1 "
                f"(0.7 asks that two texts share 70 % of their word triples)."
            )
        if not self.dataset_id.strip():
            raise InputError(
                "dataset_id is empty. Give a hub id, a file, a folder or package://<package>/<file>."
            )
        if self.row_filter and "=" not in self.row_filter:
            raise InputError(
                f"row_filter {shown(self.row_filter)} is not of the form column=value. Write it as source=imdb, say."
            )
        own = {"text": self.text_column, "label": self.label_column, "group": ""}
        for column in self.carried_columns:
            if column in own or column in own.values():
                raise InputError(
                    f"slice_columns names {shown(column)}, which is taken: a dataset's own columns are text, label and "
                    f"group. Evaluation slices by the label anyway; rename another column of that name in the source."
                )

    @property
    def carried_columns(self) -> list[str]:
        """The columns that `slice_columns` names, without repetitions."""
        return list(dict.fromkeys(name for part in self.slice_columns.split(",") if (name := part.strip())))
