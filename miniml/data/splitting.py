"""Splits rows into training, validation and test: by the source's own splits, or else stratified and seeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from miniml.data.duplicates import place
from miniml.data.findings import Findings, Passage
from miniml.data.labels import Labels
from miniml.data.pool import Ints, Mask, Pool
from miniml.data.prepared import SPLITS
from miniml.data.randomness import shuffled
from miniml.errors import InputError
from miniml.progress import logger
from miniml.settings.data import DataSettings

TRAIN, VALIDATION, TEST = range(len(SPLITS))
OUT = -1
"""The number of a row that is in no split."""

Assignment = np.ndarray[Any, np.dtype[np.int8]]
"""The split of every row of the pool."""


def split_rows(
    pool: Pool, kept: Mask, labels: Labels, settings: DataSettings, findings: Findings
) -> Assignment:
    """Assigns every kept row to a split, or to none if it is beyond `max_rows`.

    A hash of a row's text, or of its group, decides on its split. So a source that grows or changes its order keeps its
    test, except for a few rows at the edge of their class's quota.

    Args:
        pool: The rows.
        kept: The rows to use, as a mask of shape (rows of the pool,).
        labels: The labels, by which the splits are stratified.
        settings: The fractions, the seed and `max_rows`.
        findings: Where rows are counted that are left out.

    Returns:
        The number of each row's split in `SPLITS`, or `OUT`, of shape (rows of the pool,).

    Raises:
        InputError: There are fewer groups than splits, or a split lacks rows (see `first_lack`).
    """
    cutter = _Cutter(pool, labels, settings)
    parts = {
        number: np.flatnonzero(kept & (pool.facts.split == number))
        for number in range(len(SPLITS))
        if (pool.facts.split == number).any()
    }
    if pool.facts.group is not None:
        _require_groups(pool, kept, settings)
        _keep_groups_apart(pool, parts, findings)
    if settings.max_rows:
        _bound(parts, cutter, labels, settings)
    for number, fraction in (
        (TEST, settings.train_test_split_ratio),
        (VALIDATION, settings.validation_split_ratio),
    ):
        if number not in parts:
            to_come = len(SPLITS) - len(parts)  # Training among them.
            wanted = fraction * len(parts[TRAIN])
            parts[number], parts[TRAIN] = cutter.cut(parts[TRAIN], fraction, SPLITS[number], to_come)
            if settings.group_column and abs(len(parts[number]) - wanted) > max(1.0, wanted / 2):
                logger.info(
                    f"{SPLITS[number]} has {len(parts[number]):,} rows, and {wanted:,.0f} were asked for: the groups "
                    f"of column {settings.group_column!r} are too large to come nearer"
                )
    assignment = np.full(len(pool.facts), OUT, np.int8)
    for number, rows in parts.items():
        assignment[rows] = number
    if lack := first_lack(pool, assignment, labels):
        raise InputError(f"{lack.words}: {_reason(lack, pool, kept, labels, settings, findings)}")
    return assignment


def _bound(parts: dict[int, Ints], cutter: _Cutter, labels: Labels, settings: DataSettings) -> None:
    """Draws `max_rows` rows of all parts, and takes the fractions of the settings for the source's own splits."""
    left = settings.max_rows
    # If `max_rows` allows it, every part gets a row of every class.
    floor = min(labels.strata, left // len(SPLITS))
    for number, fraction, to_come in (
        (TEST, settings.train_test_split_ratio, 2),
        (VALIDATION, settings.validation_split_ratio, 1),
    ):
        if number in parts:
            most = min(max(round(left * fraction), floor), left - to_come * floor)
            parts[number] = cutter.draw(parts[number], most, f"{SPLITS[number]} rows")
            left -= len(parts[number])
    # Of every class, one row for each part that will be cut from these, and one for training.
    parts[TRAIN] = cutter.draw(parts[TRAIN], left, "rows", least=len(SPLITS) - len(parts) + 1)


@dataclass(frozen=True)
class Lack:
    """A split that lacks rows."""

    split: int
    words: str


def first_lack(pool: Pool, assignment: Assignment, labels: Labels) -> Lack | None:
    """Returns the first split without a row or, for training and test, without a row of some class; else None.

    Args:
        pool: The rows.
        assignment: The split of each row.
        labels: The labels of the dataset.
    """
    for number, split in enumerate(SPLITS):
        codes = pool.facts.label[assignment == number]
        if not len(codes):
            return Lack(number, f"the {split} part has no row")
        if number != VALIDATION and (lacking := labels.lacking(codes)):
            return Lack(number, f"{lacking} has no row in the {split} part of {len(codes):,} rows")
    return None


def _reason(
    lack: Lack, pool: Pool, kept: Mask, labels: Labels, settings: DataSettings, findings: Findings
) -> str:
    """Returns why a split lacks something, and the remedy."""
    own = pool.facts.split == lack.split
    if own.any() and labels.lacking(pool.facts.label[own & kept]):
        split = SPLITS[lack.split]
        otherwise = ", or take that split out, and one is cut from training" if lack.split != TRAIN else ""
        return (
            f"the source's own {split} split brings none that is not left out as a duplicate. "
            f"Add some there{otherwise}."
        )
    if shared := findings.dropped.get("shared_group", 0):
        return (
            f"{shared:,} rows were left out whose group a later split has too. Set another group_column (now "
            f"{settings.group_column!r}), or none."
        )
    larger = f"Raise max_rows (now {settings.max_rows}), or collect" if settings.max_rows else "Collect"
    if settings.group_column:
        return f"its groups are too few or too large to split. {larger} more, or set another group_column, or none."
    return f"there are too few rows to split. {larger} more."


def _require_groups(pool: Pool, kept: Mask, settings: DataSettings) -> None:
    assert pool.facts.group is not None
    groups = len(np.unique(pool.facts.group[kept]))
    if groups < len(SPLITS):
        raise InputError(
            f"group_column {settings.group_column!r} has {groups} different values, too few to split: training, "
            f"validation and test need one each. Set another group_column, or none."
        )


def _keep_groups_apart(pool: Pool, parts: dict[int, Ints], findings: Findings) -> None:
    """Removes rows of groups that are also in a later split of the source: train < validation < test."""
    assert pool.facts.group is not None
    groups = pool.facts.group
    for held_out, others in ((TEST, (TRAIN, VALIDATION)), (VALIDATION, (TRAIN,))):
        for number in others:
            if held_out not in parts or number not in parts:
                continue
            shared = np.isin(groups[parts[number]], groups[parts[held_out]])
            findings.add("shared_group", int(shared.sum()), dropped=True)
            for row in parts[number][shared][:2].tolist():
                if findings.wants("shared_group"):
                    text = pool.texts_of([row])[row]
                    findings.show("shared_group", Passage.of(place(pool, row), text))
            parts[number] = parts[number][~shared]


class _Cutter:
    def __init__(self, pool: Pool, labels: Labels, settings: DataSettings) -> None:
        self._facts, self._seed = pool.facts, settings.seed
        self._strata, self._stratum = labels.strata, labels.strata_of(pool.facts.label)

    def draw(self, rows: Ints, size: int, purpose: str, least: int = 1) -> Ints:
        """Draws rows, stratified by class.

        Args:
            rows: The rows to draw from.
            size: The number of rows; all are drawn if there are fewer.
            purpose: Distinguishes the random order from that of other draws.
            least: The number of rows that each class gets at least, if it has them and `size` allows it.
        """
        counts = np.bincount(self._stratum[rows], minlength=self._strata)
        return self._drawn(rows, _apportioned(counts, size, min(least, size // self._strata)), purpose)

    def cut(self, rows: Ints, fraction: float, purpose: str, to_come: int) -> tuple[Ints, Ints]:
        """Cuts a fraction off the rows, or of their groups, stratified by class.

        Args:
            rows: The rows to cut.
            fraction: The fraction to cut off.
            purpose: Distinguishes the random order from that of other draws.
            to_come: The number of parts that need a row, or a group, of each class afterwards.

        Returns:
            The rows that were cut off, and the others.
        """
        if self._facts.group is not None:
            return self._cut_groups(rows, fraction, purpose, to_come)
        counts = np.bincount(self._stratum[rows], minlength=self._strata)
        most = counts - _left_over(counts, to_come)
        in_proportion = np.round(counts * round(fraction * len(rows)) / max(1, len(rows))).astype(np.int64)
        sizes = np.clip(in_proportion, np.minimum(1, most), most)
        chosen = self._drawn(rows, sizes, purpose)
        return chosen, np.setdiff1d(rows, chosen, assume_unique=True)

    def _drawn(self, rows: Ints, sizes: Ints, purpose: str) -> Ints:
        """Draws `sizes` rows of each class, in the order of the source."""
        order = shuffled(rows, self._facts.text_hash, self._seed, purpose)
        numbers = self._stratum[order]
        return np.sort(
            np.concatenate([order[numbers == number][:size] for number, size in enumerate(sizes.tolist())])
        )

    def _cut_groups(self, rows: Ints, fraction: float, purpose: str, to_come: int) -> tuple[Ints, Ints]:
        assert self._facts.group is not None
        groups, group_of = np.unique(self._facts.group[rows], return_inverse=True)
        sizes = np.bincount(group_of)
        main = _main_stratum(group_of, self._stratum[rows], self._strata)
        order = shuffled(np.arange(len(groups)), groups, self._seed, purpose)
        chosen = np.zeros(len(groups), bool)
        for number in range(self._strata):
            members = order[main[order] == number]
            most = len(members) - int(_left_over(np.array(len(members)), to_come))
            chosen[members[_filling(sizes[members], fraction * sizes[members].sum(), most)]] = True
        if not chosen.any() and len(groups) > to_come:
            chosen[order[sizes[order].argmin()]] = True
        drawn = chosen[group_of]
        return rows[drawn], rows[~drawn]


def _left_over(counts: Ints, to_come: int) -> Ints:
    """Returns how many of each class's rows or groups must stay for `to_come` parts; the last one always stays."""
    stay: Ints = np.minimum(counts, np.clip(counts - 1, 1, to_come))
    return stay


def _apportioned(counts: Ints, size: int, least: int) -> Ints:
    """Apportions `size` rows, or all if there are fewer, to the classes by the largest remainders.

    See https://en.wikipedia.org/wiki/Largest_remainder_method. A class with `least` rows gets them, at the expense of
    the largest classes; `size` must be large enough for that.
    """
    size = min(size, int(counts.sum()))
    exact = counts * size / max(1, counts.sum())
    sizes: Ints = np.floor(exact).astype(np.int64)
    sizes[np.argsort(sizes - exact, kind="stable")[: size - sizes.sum()]] += 1
    sizes = np.maximum(sizes, np.minimum(least, counts))
    while sizes.sum() > size:
        sizes[sizes.argmax()] -= 1
    return sizes


def _filling(sizes: Ints, wanted: float, most: int) -> list[int]:
    """Returns the numbers of at most `most` groups that together have about `wanted` rows.

    They are taken in their order, except for those that are larger than the rest of `wanted`. The smallest of these
    fills the rest, if that comes nearer to it.
    """
    taken: list[int] = []
    passed: list[int] = []
    for number, size in enumerate(sizes.tolist()):
        if wanted < 0.5 or len(taken) == most:
            return taken
        if size <= wanted:
            taken.append(number)
            wanted -= size
        else:
            passed.append(number)
    smallest = min(passed, key=sizes.__getitem__, default=None)
    if smallest is not None and len(taken) < most and sizes[smallest] < 2 * wanted:
        taken.append(smallest)
    return taken


def _main_stratum(group_of: Ints, numbers: Ints, strata: int) -> Ints:
    """Returns the most frequent stratum of each group's rows, by which whole groups are stratified."""
    best = np.zeros(group_of.max(initial=-1) + 1, np.int64)
    most = np.zeros_like(best)
    for number in range(strata):
        counts = np.bincount(group_of[numbers == number], minlength=len(best))
        best[counts > most] = number
        most = np.maximum(most, counts)
    return best
