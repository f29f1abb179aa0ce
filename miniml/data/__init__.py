"""From any source to a dataset that training can rely on: checked, without duplicates or leaks, split once.

What comes out is a folder that `datasets.load_from_disk` reads: splits train, validation and test, each
with the columns `text` (string) and `label` (ClassLabel), `group` (int64) where `group_column` was given, and those
that `slice_columns` names (strings), and `dataset.json` with what is known of them.

`group` has one number for each group, and for each row without a group one of its own. It is a hash of the group's
value (of the text, where there is none), so that a group has the same number in every dataset.

`miniml.data.preparation` makes it. This package itself only reads it, and so needs none of the libraries of making
one: the images of train and evaluate do not have them.
"""

from miniml.data.summary import GROUP, SPLITS, DatasetSummary, load

__all__ = ["GROUP", "SPLITS", "DatasetSummary", "load"]
