"""Train, validation and test: the source's own where it has them, else cut, stratified and seeded."""

from __future__ import annotations

from typing import Any

import numpy as np

from miniml.data.duplicates import Mask, place
from miniml.data.findings import Findings, Passage
from miniml.data.labels import Labels
from miniml.data.pool import Ints, Pool
from miniml.data.randomness import keys, shuffled
from miniml.data.summary import SPLITS
from miniml.errors import InputError
from miniml.settings import DataSettings

TRAIN, VALIDATION, TEST = range(len(SPLITS))
OUT = -1
"""In place of a split's number: the row is in none."""

Assignment = np.ndarray[Any, np.dtype[np.int8]]
"""The split of every row of the pool."""


def split_rows(
    pool: Pool, kept: Mask, labels: Labels, settings: DataSettings, findings: Findings
) -> Assignment:
    """Puts every row that is `kept` into a split, or leaves it out where `max_rows` is reached.

    Raises:
        InputError: there are fewer groups than splits.
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
    if TEST not in parts:
        share = round(settings.train_test_split_ratio * len(parts[TRAIN]))
        parts[TEST], parts[TRAIN] = cutter.cut(parts[TRAIN], share, "test")
    if VALIDATION not in parts:
        share = round(settings.validation_split_ratio * len(parts[TRAIN]))
        parts[VALIDATION], parts[TRAIN] = cutter.cut(parts[TRAIN], share, "validation")
    assignment = np.full(len(pool.facts), OUT, np.int8)
    for number, rows in parts.items():
        assignment[rows] = number
    return assignment


def _bound(parts: dict[int, Ints], cutter: _Cutter, labels: Labels, settings: DataSettings) -> None:
    """Draws `max_rows` of all parts together, those that the source holds out in the shares that they would be cut."""
    left = settings.max_rows
    for number, share, purpose in (
        (TEST, settings.train_test_split_ratio, "test rows"),
        (VALIDATION, settings.validation_split_ratio, "validation rows"),
    ):
        if number in parts:
            most = max(round(left * share), labels.strata)
            parts[number], _ = cutter.draw(parts[number], most, purpose)
            left -= len(parts[number])
    # Of every class, one row for each part that is yet to be cut out, and one to learn from.
    least = len({TRAIN, VALIDATION, TEST} - parts.keys()) + 1
    parts[TRAIN], _ = cutter.draw(parts[TRAIN], left, "rows", least if least * labels.strata <= left else 1)


def require_every_class(
    pool: Pool, assignment: Assignment, labels: Labels, settings: DataSettings, leaked: int
) -> None:
    """Fails where training or the test has no row of some class, `leaked` rows having left as near-duplicates.

    Raises:
        InputError: it names the class and the split.
    """
    for number in (TRAIN, TEST):
        codes = pool.facts.label[assignment == number]
        lacking = labels.lacking(codes)
        if lacking and leaked:
            raise InputError(
                f"{lacking} has no row left in the {SPLITS[number]} part of {len(codes):,} rows: "
                f"{leaked:,} rows had a near-duplicate in a later split. Raise near_duplicate_threshold (now "
                f"{settings.near_duplicate_threshold:g}), or set near_duplicates to report."
            )
        if lacking:
            raise InputError(
                f"{lacking} has no row in the {SPLITS[number]} part of {len(codes):,} rows: it is too small "
                f"to split. Raise max_rows (now {settings.max_rows}), collect more of it, or remove the class."
            )


def _require_groups(pool: Pool, kept: Mask, settings: DataSettings) -> None:
    assert pool.facts.group is not None
    groups = len(np.unique(pool.facts.group[kept]))
    if groups < len(SPLITS):
        raise InputError(
            f"group_column {settings.group_column!r} has {groups} different values, too few to split: training, "
            f"validation and test need one each. Set another group_column, or none."
        )


def _keep_groups_apart(pool: Pool, parts: dict[int, Ints], findings: Findings) -> None:
    """Where the source brings splits, its training gives way to its validation, and both to its test."""
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

    def draw(self, rows: Ints, size: int, purpose: str, least: int = 1) -> tuple[Ints, Ints]:
        """About `size` rows, every class in proportion with `least` rows where it has them; the others come second."""
        if size >= len(rows):
            return rows, rows[:0]
        members = [rows[self._stratum[rows] == number] for number in range(self._strata)]
        in_proportion = [round(len(each) * size / len(rows)) for each in members]
        sizes = np.array(
            [min(len(each), max(least, share)) for each, share in zip(members, in_proportion, strict=True)]
        )
        # What rare classes are given above their share, the largest ones go without.
        while least > 1 and sizes.sum() > sum(in_proportion) and sizes.max() > least:
            sizes = np.minimum(sizes, sizes.max() - 1)
        drawn = [
            shuffled(each, self._seed, purpose)[:count]
            for each, count in zip(members, sizes.tolist(), strict=True)
        ]
        chosen = np.sort(np.concatenate(drawn))
        return chosen, np.setdiff1d(rows, chosen, assume_unique=True)

    def cut(self, rows: Ints, size: int, purpose: str) -> tuple[Ints, Ints]:
        """The same by whole groups, where there are groups."""
        if self._facts.group is None:
            return self.draw(rows, size, purpose)
        groups, group_of = np.unique(self._facts.group[rows], return_inverse=True)
        sizes = np.bincount(group_of)
        main = _main_stratum(group_of, self._stratum[rows], self._strata)
        order = np.argsort(keys(np.arange(len(groups)), self._seed, purpose), kind="stable")
        chosen = np.zeros(len(groups), bool)
        for number in range(self._strata):
            members = order[main[order] == number]
            wanted = sizes[members].sum() * size / max(1, len(rows))
            # As many groups as come nearest to the share, but never all of what there is.
            nearest = int(np.argmin(np.abs(np.append(0, sizes[members].cumsum()) - wanted)))
            chosen[members[: min(nearest, len(members) - 1)]] = True
        if not chosen.any():
            chosen[order[0]] = True
        drawn = chosen[group_of]
        return rows[drawn], rows[~drawn]


def _main_stratum(group_of: Ints, numbers: Ints, strata: int) -> Ints:
    """The class, or other stratum, that most rows of each group have, by which whole groups are stratified."""
    best = np.zeros(group_of.max(initial=-1) + 1, np.int64)
    most = np.zeros_like(best)
    for number in range(strata):
        counts = np.bincount(group_of[numbers == number], minlength=len(best))
        best[counts > most] = number
        most = np.maximum(most, counts)
    return best
