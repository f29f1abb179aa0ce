"""Drops rows that nearly repeat a row of a later split; near-duplicates within a split are only reported.

Within a split they do not distort the evaluation, as the test still holds only texts that training has not seen. To
drop them would cost rows, and reviews with standard phrases ("5 stars. Fast delivery, ...") differ in the words that
matter.
"""

from __future__ import annotations

import numpy as np

from miniml.data.duplicates import place
from miniml.data.findings import MAX_EXAMPLES, Findings, Passage
from miniml.data.label_scheme import label_of
from miniml.data.labels import Labels
from miniml.data.near_duplicates import Pairs, find_pairs
from miniml.data.pool import Ints, Mask, Pool
from miniml.data.splitting import OUT, Assignment, first_lack
from miniml.errors import InputError
from miniml.settings.data import DataSettings


def drop_leaks(
    pool: Pool, assignment: Assignment, labels: Labels, settings: DataSettings, findings: Findings
) -> None:
    """Removes rows from `assignment` that nearly repeat a row of a later split: train < validation < test.

    Args:
        pool: The rows.
        assignment: The split of each row, of shape (rows of the pool,), which is changed.
        labels: The labels of the dataset.
        settings: The threshold, and whether to drop or only report.
        findings: Where the rows are counted.

    Raises:
        InputError: A split is then left without rows, or without rows of a class that it needs.
    """
    if settings.near_duplicates == "off":
        return
    rows = np.flatnonzero(assignment != OUT)
    pairs = find_pairs(pool, rows, -assignment.astype(np.int64), settings.near_duplicate_threshold)
    one, other = assignment[pairs.first], assignment[pairs.second]
    across = one != other
    # A row of validation that is dropped does not make rows of training leak.
    leaking: Ints = np.zeros(0, np.int64)
    for held_out in sorted({int(split) for split in one[across]} | {int(split) for split in other[across]})[
        ::-1
    ]:
        for here, there in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
            hit = (assignment[here] == held_out) & (assignment[there] < held_out) & ~np.isin(here, leaking)
            leaking = np.union1d(leaking, there[hit])
    findings.add("near_duplicate", len(leaking), dropped=settings.near_duplicates == "drop")
    findings.add("near_duplicate_within", len(np.unique(pairs.second[~across])))
    unlike = pool.facts.label[pairs.first] != pool.facts.label[pairs.second]
    findings.add("near_duplicate_conflict", len(np.unique(pairs.second[unlike])))
    _show(pool, pairs, across, "near_duplicate", findings)
    _show(pool, pairs, ~across, "near_duplicate_within", findings)
    _show(pool, pairs, unlike, "near_duplicate_conflict", findings)
    if settings.near_duplicates == "drop":
        assignment[leaking] = OUT
    if lack := first_lack(pool, assignment, labels):
        raise InputError(
            f"{lack.words} left: {len(leaking):,} rows had a near-duplicate in a later split. Raise "
            f"near_duplicate_threshold (now {settings.near_duplicate_threshold:g}), or set near_duplicates to report."
        )


def _show(pool: Pool, pairs: Pairs, which: Mask, check: str, findings: Findings) -> None:
    """Adds the least similar pairs as examples, since they show what the threshold includes."""
    numbers = np.flatnonzero(which)
    least = numbers[np.argsort(pairs.similarity[numbers], kind="stable")][:MAX_EXAMPLES]
    for number in least.tolist():
        rows = [int(pairs.first[number]), int(pairs.second[number])]
        texts = pool.texts_of(rows)
        difference = _first_difference(texts[rows[0]], texts[rows[1]])
        passages = [
            Passage.of(place(pool, row), texts[row], str(label_of(pool, row)), difference) for row in rows
        ]
        findings.show(check, *passages, similarity=float(pairs.similarity[number]))


def _first_difference(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
