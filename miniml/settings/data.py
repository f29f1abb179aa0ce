"""Which rows to take, and how to split them."""

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
    """Which rows to take, and how to split them."""

    dataset_id: FormField[str] = "Yelp/yelp_review_full"
    """A hub id, a path, package://<package>/<file>, s3://<bucket>/<path> or s3://<bucket>/<name>@<version>."""
    text_column: FormField[str] = "text"
    """The column of the texts."""
    label_column: FormField[str] = "label"
    """The column of the labels."""
    label_names: FormField[str] = ""
    """Names for the classes, comma-separated, in the order of the sorted labels; "" keeps the source's."""
    task: FormField[TaskName] = "auto"
    """What a text gets, as transformers calls it: single_label_classification, multi_label_classification or
    regression. "auto" sees it in the labels: lists of them are several labels, numbers with a fraction a regression;
    whole numbers and words are classes."""
    label_separator: str = ""
    """What stands between the labels of one text where a column has them as one string: "|" reads "toxic|insult" as
    two. An empty string has none. It makes the task multi_label_classification."""
    row_filter: str = ""
    """`column=value` keeps only the rows whose column reads so; "" keeps all."""
    group_column: str = ""
    """Rows that read alike in this column (an author, a product) come into one split, and rows without a value each
    stand alone; "" knows no groups."""
    slice_columns: str = ""
    """Columns to carry along, comma-separated, so that evaluation can tell how the model does on parts of the test."""
    fix_encoding: bool = False
    """Reads "cafÃ©" as "café": UTF-8 that was taken for Latin-1 or Windows-1252 somewhere on its way, and dashes and
    quotation marks of Windows-1252 that were taken for control characters of Latin-1."""
    strip_html: bool = False
    """Puts a space in place of HTML's tags, and a character in place of its entities."""
    strip_control_characters: bool = False
    """Takes control characters out, but for tabs and line ends."""
    drop_empty_texts: bool = False
    """Leaves out rows without a text instead of failing."""
    drop_unlabelled: bool = False
    """Leaves out rows without a label instead of failing."""
    max_characters: int = 100_000
    """A longer text is reported, or left out with `drop_long_texts`; 0 is no limit. The server's is the same."""
    drop_long_texts: bool = False
    """Leaves out texts of more than `max_characters`."""
    min_rows_per_class: int = 3
    """A class with fewer distinct texts is an error, or left out with `drop_rare_classes`."""
    drop_rare_classes: bool = False
    """Leaves out classes of fewer than `min_rows_per_class`."""
    conflicting_labels: Literal["drop", "majority", "refuse"] = "drop"
    """The same text under two labels: "drop" leaves all its rows out, "majority" those of the rarer label, and
    "refuse" ends with an error. In every case no label is changed."""
    near_duplicates: Literal["drop", "report", "off"] = "drop"
    """"drop" takes out of training and validation what the test nearly repeats, "report" only tells."""
    near_duplicate_threshold: float = 0.7
    """The share of word triples, of those that stand in either text, that stand in both (Jaccard similarity)."""
    train_test_split_ratio: float = 0.2
    """The share of the rows that is held out for the test, where the source has no test split."""
    validation_split_ratio: float = 0.1
    """The share of the training rows that training may look at but not learn from."""
    max_rows: FormField[int] = 1000
    """The most rows to take in all, training and test together; 0 takes every row."""
    seed: FormField[int] = 42
    """The same seed gives the same splits, the same search and, on the same machine, the same model."""

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
        """What `slice_columns` names, each once."""
        return list(dict.fromkeys(name for part in self.slice_columns.split(",") if (name := part.strip())))
