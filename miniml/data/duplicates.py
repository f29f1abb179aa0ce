"""Drops repeated texts; a text is kept once, unless its labels conflict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from miniml.data.findings import Findings, Passage
from miniml.data.label_scheme import label_of
from miniml.data.pool import Ints, Mask, Pool
from miniml.data.prepared import SPLITS
from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.data import DataSettings


def drop_duplicates(pool: Pool, kept: Mask, settings: DataSettings, findings: Findings) -> None:
    """Unmarks repetitions of texts, and texts with conflicting labels, in `kept`.

    If a text is in several splits, the test's row stays, since training must not see texts of the test.

    Args:
        pool: The rows.
        kept: The rows to use, as a mask of shape (rows of the pool,), which is changed.
        settings: What to do with conflicting labels.
        findings: Where the rows are counted.

    Raises:
        InputError: Labels conflict, and `conflicting_labels` is "refuse".
    """
    order, starts = _groups(pool, np.flatnonzero(kept))
    for group in _conflicts(pool, order, starts):
        if settings.conflicting_labels == "refuse":
            raise InputError(
                f"one text stands under different labels: {_places(pool, group)}. Correct the source, or set "
                f"conflicting_labels to drop or majority."
            )
        out = _outvoted(pool, group, settings.conflicting_labels)
        kept[out] = False
        findings.add("conflicting", len(out), dropped=True)
        if findings.wants("conflicting"):
            findings.show("conflicting", *_passages(pool, _unlike(pool, group)))
    order, starts = _groups(pool, np.flatnonzero(kept))
    repeated = np.ones(len(order), bool)
    repeated[starts] = False
    kept[order[repeated]] = False
    findings.add("duplicate", int(repeated.sum()), dropped=True)
    for place in np.flatnonzero(repeated)[:20].tolist():
        if findings.wants("duplicate"):
            first = order[starts[np.searchsorted(starts, place, side="right") - 1]]
            findings.show("duplicate", *_passages(pool, [int(first), int(order[place])]))


def _groups(pool: Pool, rows: Ints) -> tuple[Ints, Ints]:
    """Returns the rows ordered by text, the test's first, and the positions where each text begins."""
    facts = pool.facts
    digest = facts.digest[rows]
    priority = len(SPLITS) - facts.split[rows]
    order = rows[np.lexsort((rows, priority, digest[:, 1], digest[:, 0]))]
    digest = facts.digest[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (digest[1:] != digest[:-1]).any(axis=1)
    return order, np.flatnonzero(begins)


def _conflicts(pool: Pool, order: Ints, starts: Ints) -> Iterator[Ints]:
    if not len(order):
        return
    labels = pool.facts.label[order]
    ends = np.append(starts[1:], len(order))
    mixed = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
    # In the order of the source, so that examples and errors name its first ones.
    for number in sorted(np.flatnonzero(mixed).tolist(), key=lambda number: int(order[starts[number]])):
        yield order[starts[number] : ends[number]]


def _outvoted(pool: Pool, group: Ints, rule: str) -> Ints:
    votes = Counter(pool.facts.label[group].tolist()).most_common()
    if rule == "drop" or votes[0][1] == votes[1][1]:
        return group
    outvoted: Ints = group[pool.facts.label[group] != votes[0][0]]
    return outvoted


def _unlike(pool: Pool, group: Ints) -> list[int]:
    labels = pool.facts.label[group]
    return [int(group[0]), int(group[np.argmax(labels != labels[0])])]


def place(pool: Pool, row: int) -> str:
    """Returns the split and number of a row in the source, for messages."""
    return f"{SPLITS[pool.facts.split[row]]}, row {pool.facts.row[row]}"


def _places(pool: Pool, group: Ints) -> str:
    return " and ".join(f"{place(pool, row)} ({shown(label_of(pool, row))})" for row in _unlike(pool, group))


def _passages(pool: Pool, rows: list[int]) -> list[Passage]:
    texts = pool.texts_of(rows)
    return [Passage.of(place(pool, row), texts[row], str(label_of(pool, row))) for row in rows]
