"""Unifies the spellings of labels, and reports names that look like mistakes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from miniml.data.findings import Findings, Passage
from miniml.data.label_scheme import scheme_of
from miniml.data.pool import Mask, Pool
from miniml.data.spelling import (
    lookalike_key,
    parts,
    reads_as_list,
    reads_as_none,
    spelled,
    whole,
)
from miniml.escaping import MAX_SHOWN, shown
from miniml.progress import logger

# The number of labels of each kind in the log.
MAX_LOGGED = 3


def with_one_spelling(pool: Pool, findings: Findings) -> Pool:
    """Returns the pool with one label for all spellings of a name.

    Spellings may differ in blanks, composed characters (NFC), type, and the fraction of a whole number (1 and 1.0).
    Other differences, such as case, may be intended, and stay.

    Args:
        pool: The rows.
        findings: Where the renamed rows are counted.
    """
    scheme = scheme_of(pool.task)
    different = list(dict.fromkeys(label for labels in _sets(pool) for label in labels))
    label_of = _labels_by_spelling(different)
    if len(label_of) == len(different) and all(name == str(label) for name, label in label_of.items()):
        return pool
    place: dict[frozenset[Any], int] = {}
    codes: list[int] = []
    values: list[Any] = []
    for labels in _sets(pool):
        renamed = dict.fromkeys(label_of[str(label)] for label in labels)
        codes.append(place.setdefault(frozenset(renamed), len(place)))
        if codes[-1] == len(values):
            values.append(scheme.value_of(tuple(renamed)))
    _report_spellings(_Rows.of(pool, np.ones(len(pool.facts), bool)), label_of, findings)
    order = pool.label_order and list(
        dict.fromkeys(str(label_of.get(name, spelled(name))) for name in pool.label_order)
    )
    label = np.array(codes, np.int32)[pool.facts.label]
    return replace(pool, facts=replace(pool.facts, label=label), label_values=values, label_order=order)


@dataclass(frozen=True)
class _Rows:
    """Counts the rows of labels by their names."""

    pool: Pool
    counts: list[int]
    """The number of rows by the pool's number of a label, or of a set of labels."""

    @classmethod
    def of(cls, pool: Pool, kept: Mask) -> _Rows:
        return cls(pool, np.bincount(pool.facts.label[kept], minlength=len(pool.label_values)).tolist())

    def having(self, names: Iterable[str]) -> int:
        """Returns the number of rows with at least one of these labels."""
        wanted = set(names)
        return sum(
            rows
            for labels, rows in zip(_sets(self.pool), self.counts, strict=True)
            if not wanted.isdisjoint(map(str, labels))
        )

    def by_name(self) -> Counter[str]:
        """Returns the number of rows of each label that occurs."""
        found: Counter[str] = Counter()
        for labels, rows in zip(_sets(self.pool), self.counts, strict=True):
            for label in labels:
                found[str(label)] += rows
        return +found


def _sets(pool: Pool) -> Iterator[tuple[Any, ...]]:
    """Yields the labels that each of the pool's numbers stands for."""
    scheme = scheme_of(pool.task)
    yield from map(scheme.labels_of, pool.label_values)


def _labels_by_spelling(labels: list[Any]) -> dict[str, Any]:
    """Returns the label that each spelling stands for: the first one in the normalised spelling."""
    as_found = {str(label): label for label in reversed(labels)}
    names = {written: spelled(written) for written in as_found}
    shortest: dict[str, str] = {}
    for name in sorted(names.values(), key=len):
        shortest.setdefault(whole(name), name)
    return {written: as_found.get(name := shortest[whole(names[written])], name) for written in names}


def _report_spellings(rows: _Rows, label_of: dict[str, Any], findings: Findings) -> None:
    """Reports the rows whose label is spelled differently from the same label in other rows."""
    ways: defaultdict[str, set[str]] = defaultdict(set)
    for written, label in label_of.items():
        ways[str(label)].add(written)
    other = [written for name, same in ways.items() if len(same) > 1 for written in sorted(same - {name})]
    by_name = rows.by_name()
    _add("label_spelling", other, rows, findings, cleaned=True)
    for written in other[:MAX_LOGGED]:
        logger.info(
            f"label {shown(written)} of {by_name[written]:,} rows is read as {shown(label_of[written])}, which other "
            f"rows have"
        )


def report_doubtful(pool: Pool, kept: Mask, findings: Findings) -> None:
    """Reports the labels of the kept rows whose names look like mistakes, and does not change them.

    Args:
        pool: The rows.
        kept: The rows to use, as a mask of shape (rows of the pool,).
        findings: Where the rows are counted.
    """
    rows = _Rows.of(pool, kept)
    by_name = rows.by_name()
    names = list(by_name)
    alike = [same for same in _by_look(names).values() if len(same) > 1]
    _add("label_alike", [name for same in alike for name in same], rows, findings)
    for same in alike[:MAX_LOGGED]:
        logger.info(
            f"labels {' and '.join(map(shown, same[:MAX_LOGGED]))} differ by case, width or invisible characters only, "
            f"and are kept apart; if they are one, make them one in the source"
        )
    empty = [name for name in names if reads_as_none(name)]
    _add("label_none", empty, rows, findings)
    for name in empty[:MAX_LOGGED]:
        logger.info(
            f"label {shown(name)} of {by_name[name]:,} rows reads like no label; if it is none, leave it empty in the "
            f"source and set drop_unlabelled=True"
        )
    several = [name for name in names if reads_as_list(name) or not by_name.keys().isdisjoint(parts(name))]
    _add("label_several", several, rows, findings)
    for name in several[:1]:
        logger.info(
            f"label {shown(name)} of {by_name[name]:,} rows reads like several labels, and is kept as one; if a text "
            f"has several, write lists of them (JSON Lines, Parquet), or a string of them and set label_separator"
        )


def alike(label: Any, others: Iterable[Any]) -> str:
    """Returns a hint for a message that another label looks alike, or ""."""
    key = lookalike_key(str(label))
    found = next((other for other in others if other != label and lookalike_key(str(other)) == key), None)
    return "" if found is None else f" (there is {shown(found)} too: make them one in the source)"


def _by_look(names: Iterable[str]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        found[lookalike_key(name)].append(name)
    return found


def _add(check: str, names: list[str], rows: _Rows, findings: Findings, *, cleaned: bool = False) -> None:
    """Counts the rows that have one of these labels, and shows the labels."""
    if not names:
        return
    found, by_name = rows.having(names), rows.by_name()
    findings.add(check, found)
    if cleaned:
        findings.cleaned[check] += found
    for name in names:
        findings.show(check, Passage.of(f"{by_name[name]:,} rows", shown(name), name[:MAX_SHOWN]))
