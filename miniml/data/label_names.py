"""The names of labels: ways of writing one are made one, and what looks like a slip is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from miniml.data.findings import Findings, Passage
from miniml.data.pool import Pool
from miniml.data.spelling import look, parts, reads_as_list, reads_as_none, spelled, whole
from miniml.progress import note
from miniml.task import Task

# Of a kind, in the log.
MOST_TOLD = 3
# Characters of a name in the log.
LONGEST_NAME = 60


def with_one_spelling(pool: Pool, findings: Findings) -> Pool:
    """The pool with one label for each name: blanks, composed characters (NFC) and type do not make another.

    Nor does the fraction of a whole number, where both 1 and 1.0 occur. Other differences, as of case, may be meant,
    and stay.
    """
    if pool.task == Task.REGRESSION:
        return pool
    several = pool.task == Task.MULTI_LABEL
    sets = [labels if several else (labels,) for labels in pool.label_values]
    label_of = _labels_by_spelling(label for labels in sets for label in labels)
    place: dict[frozenset[Any], int] = {}
    codes: list[int] = []
    values: list[Any] = []
    for labels in sets:
        renamed = dict.fromkeys(label_of[str(label)] for label in labels)
        codes.append(place.setdefault(frozenset(renamed), len(place)))
        if codes[-1] == len(values):
            values.append(tuple(renamed) if several else next(iter(renamed)))
    _tell_spellings(pool, sets, label_of, findings)
    order = pool.label_order and list(
        dict.fromkeys(str(label_of.get(name, spelled(name))) for name in pool.label_order)
    )
    label = np.array(codes, np.int32)[pool.facts.label]
    return replace(pool, facts=replace(pool.facts, label=label), label_values=values, label_order=order)


def _labels_by_spelling(labels: Iterable[Any]) -> dict[str, Any]:
    """By each spelling that occurs, the label that it stands for: the first one that is written as it should be."""
    as_found = {str(label): label for label in reversed(list(labels))}
    names = {written: spelled(written) for written in as_found}
    shortest: dict[str, str] = {}
    for name in sorted(names.values(), key=len):
        shortest.setdefault(whole(name), name)
    return {written: as_found.get(name := shortest[whole(names[written])], name) for written in names}


def _tell_spellings(
    pool: Pool, sets: list[tuple[Any, ...]], label_of: dict[str, Any], findings: Findings
) -> None:
    """Tells the rows whose label is written otherwise than the same label in other rows."""
    spellings: defaultdict[str, set[str]] = defaultdict(set)
    for written, label in label_of.items():
        spellings[str(label)].add(written)
    rows_of: dict[str, int] = defaultdict(int)
    for labels, rows in zip(sets, np.bincount(pool.facts.label, minlength=len(sets)).tolist(), strict=True):
        for label in labels:
            rows_of[str(label)] += rows
    for name, ways in spellings.items():
        for other in sorted(ways - {name}) if len(ways) > 1 else ():
            rows = rows_of[other]
            findings.add("label_spelling", rows)
            findings.cleaned["label_spelling"] += rows
            findings.show("label_spelling", Passage.of(f"{rows:,} rows", repr(other), name))
            note(f"label {shown(other)} of {rows:,} rows is read as {shown(name)}, which other rows have")


def tell_doubtful(rows_of: Mapping[Any, int], findings: Findings) -> None:
    """Tells names that look like a slip, by the number of rows that each label has: they are kept as they are."""
    names = {str(label): rows for label, rows in rows_of.items()}
    alike = [same for same in _alike(names).values() if len(same) > 1]
    _tell("label_alike", [name for same in alike for name in same], names, findings)
    for same in alike[:MOST_TOLD]:
        note(
            f"labels {' and '.join(map(shown, same))} differ by case, width or invisible characters only, and are "
            f"kept apart; if they are one, make them one in the source"
        )
    empty = [name for name in names if reads_as_none(name)]
    _tell("label_none", empty, names, findings)
    for name in empty[:MOST_TOLD]:
        note(
            f"label {shown(name)} of {names[name]:,} rows reads like no label; if it is none, leave it empty in the "
            f"source and set drop_unlabelled=True"
        )
    several = [name for name in names if reads_as_list(name) or set(parts(name)) & names.keys()]
    _tell("label_several", several, names, findings)
    for name in several[:1]:
        note(
            f"label {shown(name)} of {names[name]:,} rows reads like several labels, and is kept as one; if a text has "
            f"several, write lists of them (JSON Lines, Parquet), or a string of them and set label_separator"
        )


def alike(label: Any, others: Iterable[Any]) -> str:
    """A hint, for an error, that another label is named nearly so; "" where none is."""
    found = next((other for other in others if other != label and look(str(other)) == look(str(label))), None)
    return "" if found is None else f" (there is {shown(str(found))} too: make them one in the source)"


def shown(name: str) -> str:
    """A name in quotes, on one line of bounded length."""
    return repr(name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…")


def _alike(names: Iterable[str]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        found[look(name)].append(name)
    return found


def _tell(check: str, names: list[str], rows_of: Mapping[str, int], findings: Findings) -> None:
    for name in names:
        findings.add(check, rows_of[name])
        findings.show(check, Passage.of(f"{rows_of[name]:,} rows", repr(name), name))
