"""Which rows come into which split: by what they hold, whatever else the source holds and in whatever order."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from miniml.data import preparation, prepared
from miniml.errors import InputError
from miniml.settings.data import DataSettings

Row = dict[str, Any]


def rows(first: int, count: int, **more: Any) -> list[Row]:
    """Rows of three classes, one of them rare, each text of words of its own."""
    labels = ("good", "bad", "good", "bad", "fine")
    return [{"text": f"t{n} u{n} v{n}", "label": labels[n % 5], **more} for n in range(first, first + count)]


def prepare(
    folder: Path, train: list[Row], others: dict[str, list[Row]] | None = None, **settings: Any
) -> prepared.DatasetSummary:
    """Prepares rows as the folder `dataset`, every one of them unless `max_rows` is given."""
    source = {
        name: datasets.Dataset.from_list(part) for name, part in {"train": train, **(others or {})}.items()
    }
    datasets.DatasetDict(source).save_to_disk(str(folder / "source"))
    settings = {"dataset_id": str(folder / "source"), "max_rows": 0, **settings}
    return preparation.prepare(DataSettings(**settings), folder / "dataset")


def texts(folder: Path) -> dict[str, set[str]]:
    return {split: set(table["text"]) for split, table in prepared.load(folder / "dataset")[0].items()}


def anywhere(old: list[Row], new: list[Row], seed: int) -> list[Row]:
    """The old rows in their order, with the new ones between them."""
    draw = random.Random(seed)
    places = [(draw.random(), row) for row in new] + [
        (place, row) for place, row in zip(sorted(draw.random() for _ in old), old, strict=True)
    ]
    return [row for _, row in sorted(places, key=lambda entry: entry[0])]


def moved(before: dict[str, set[str]], after: dict[str, set[str]], origin: str, target: str) -> int:
    return len(before[origin] & after[target])


def test_the_same_rows_in_another_order_give_the_same_dataset(tmp_path: Path) -> None:
    source = rows(0, 400)
    one = prepare(tmp_path / "a", source)
    other = prepare(tmp_path / "b", random.Random(1).sample(source, 400))
    assert one.rows == {"train": 288, "validation": 32, "test": 80}
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("where", ["in front", "behind", "anywhere"])
def test_a_source_that_grows_keeps_its_test(where: str, tmp_path: Path) -> None:
    old, new = rows(0, 400), rows(400, 40)
    grown = {"in front": new + old, "behind": old + new, "anywhere": anywhere(old, new, seed=2)}[where]
    prepare(tmp_path / "before", old)
    summary = prepare(tmp_path / "after", grown)
    assert summary.rows["test"] == 88
    before, after = texts(tmp_path / "before"), texts(tmp_path / "after")
    # Those at the edge of their class's share. Of rows that are drawn anew it would be some 60 each way.
    assert moved(before, after, "train", "test") <= 3
    assert moved(before, after, "test", "train") <= 3
    assert moved(before, after, "validation", "train") <= 3


def test_one_more_row_moves_at_most_one(tmp_path: Path) -> None:
    old = rows(0, 200)
    prepare(tmp_path / "before", old)
    before = texts(tmp_path / "before")
    for number in range(5):
        prepare(tmp_path / str(number), rows(1000 + number, 1) + old)
        after = texts(tmp_path / str(number))
        assert moved(before, after, "train", "test") + moved(before, after, "test", "train") <= 1


def test_more_rows_of_a_source_have_the_test_of_fewer_in_theirs(tmp_path: Path) -> None:
    source = rows(0, 2000)
    few = prepare(tmp_path / "few", source, max_rows=400)
    prepare(tmp_path / "more", source, max_rows=800)
    assert sum(few.rows.values()) == 400
    before, after = texts(tmp_path / "few"), texts(tmp_path / "more")
    assert set.union(*before.values()) < set.union(*after.values())
    assert moved(before, after, "train", "test") <= 8
    assert moved(before, after, "test", "train") <= 8


def grouped(first: int, groups: int) -> list[Row]:
    """Rows of as many groups as said, of 1 to 6 rows each."""
    sizes = np.random.default_rng(first).integers(1, 7, groups).tolist()
    return [
        {"text": f"g{number} r{row} x{number}y{row}", "label": ("a", "b")[number % 2], "who": f"w{number}"}
        for number, size in zip(range(first, first + groups), sizes, strict=True)
        for row in range(size)
    ]


def test_groups_stay_where_they_are_in_a_source_that_grows(tmp_path: Path) -> None:
    old, new = grouped(0, 150), grouped(150, 15)
    prepare(tmp_path / "before", old, group_column="who")
    prepare(tmp_path / "after", anywhere(old, new, seed=3), group_column="who")
    prepare(tmp_path / "shuffled", random.Random(1).sample(old, len(old)), group_column="who")
    before, after = texts(tmp_path / "before"), texts(tmp_path / "after")
    assert texts(tmp_path / "shuffled") == before
    held_out = len(before["test"])
    assert held_out == pytest.approx(0.2 * len(old), abs=2)
    assert moved(before, after, "train", "test") <= 0.1 * held_out
    assert moved(before, after, "test", "train") <= 0.1 * held_out


@pytest.mark.parametrize("missing", [None, "", "  ", float("nan")])
def test_rows_without_a_group_are_each_their_own(missing: Any, tmp_path: Path) -> None:
    source = rows(0, 300, who=missing)
    kind = 7.0 if isinstance(missing, float) else "ann"
    source += rows(300, 20, who=kind)
    prepare(tmp_path, source, group_column="who")
    splits, _ = prepared.load(tmp_path / "dataset")
    groups = {split: Counter(table["group"]) for split, table in splits.items()}
    assert splits["test"].features["group"] == datasets.Value("int64")
    sizes = sorted(size for counted in groups.values() for size in counted.values())
    assert sizes == [1] * 300 + [20]
    assert len(splits["test"]) == pytest.approx(64, abs=3)
    assert all(number >= 0 for counted in groups.values() for number in counted)


def test_a_dataset_has_the_groups_only_where_they_were_asked_for(tmp_path: Path) -> None:
    prepare(tmp_path / "with", grouped(0, 40), group_column="who", slice_columns="who")
    prepare(tmp_path / "without", grouped(0, 40))
    splits, _ = prepared.load(tmp_path / "with" / "dataset")
    assert splits["test"].column_names == ["text", "label", "group", "who"]
    numbers = {(row["who"], row["group"]) for table in splits.values() for row in table}
    assert len(numbers) == len(dict(numbers)) == len({number for _, number in numbers}) == 40
    assert prepared.load(tmp_path / "without" / "dataset")[0]["test"].column_names == ["text", "label"]
    with pytest.raises(InputError, match="names 'group', which is taken"):
        DataSettings(slice_columns="group")


def test_groups_are_the_same_however_their_column_is_typed(tmp_path: Path) -> None:
    train = [{**row, "who": n % 40} for n, row in enumerate(rows(0, 200))]
    test = [{**row, "who": float(n % 4)} for n, row in enumerate(rows(200, 40))]
    summary = prepare(tmp_path, train, {"test": test}, group_column="who")
    assert summary.dropped == {"shared_group": 20}


@pytest.mark.parametrize("seed", range(4))
def test_one_large_group_does_not_end_the_filling_of_a_split(seed: int, tmp_path: Path) -> None:
    source = rows(0, 150, who="a chain") + [
        {**row, "who": f"w{n // 3}"} for n, row in enumerate(rows(150, 150))
    ]
    summary = prepare(tmp_path, source, group_column="who", seed=seed)
    assert summary.rows["test"] == pytest.approx(60, abs=6)
    assert summary.rows["validation"] == pytest.approx(24, abs=6)
    large = {f"t{n} u{n} v{n}" for n in range(150)}
    assert sum(bool(part & large) for part in texts(tmp_path).values()) == 1


def test_groups_too_large_for_a_share_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    who = ["a"] * 150 + ["b"] * 140 + [""] * 10
    source = [{"text": f"t{n} u{n} v{n}", "label": n % 2, "who": group} for n, group in enumerate(who)]
    assert prepare(tmp_path, source, group_column="who").rows["test"] < 20
    assert "rows, and 60 were asked for: the groups of column 'who' are too large" in capsys.readouterr().out


def test_three_groups_are_enough_for_three_splits(tmp_path: Path) -> None:
    sizes = {"a": 90, "b": 6, "c": 5}
    names = [name for name, size in sizes.items() for _ in range(size)]
    source = [{"text": f"t{n} u{n} v{n}", "label": n % 2, "who": who} for n, who in enumerate(names)]
    assert sorted(prepare(tmp_path, source, group_column="who").rows.values()) == [5, 6, 90]


@pytest.mark.parametrize(("max_rows", "classes"), [(100, 3), (37, 7), (30, 10), (91, 30)])
def test_max_rows_is_never_exceeded_by_a_source_with_splits_of_its_own(
    max_rows: int, classes: int, tmp_path: Path
) -> None:
    def part(first: int, count: int) -> list[Row]:
        return [{"text": f"t{n} u{n} v{n}", "label": f"c{n % classes}"} for n in range(first, first + count)]

    others = {"validation": part(1000, 300), "test": part(2000, 300)}
    summary = prepare(tmp_path, part(0, 600), others, max_rows=max_rows)
    assert sum(summary.rows.values()) == max_rows
    assert all(summary.rows_per_class["test"].values())
    assert summary.not_drawn == 1200 - max_rows


@pytest.mark.parametrize(
    ("train", "others", "settings", "message"),
    [
        # Every text of validation stands in the test too, word for word or nearly.
        (rows(0, 60), {"validation": rows(60, 15), "test": rows(60, 30)}, {}, "validation split brings none"),
        (
            rows(0, 60),
            {
                "validation": [{**row, "text": row["text"].upper()} for row in rows(60, 15)],
                "test": rows(60, 30),
            },
            {},
            r"validation part has no row left: 15 rows had a near-duplicate.*near_duplicate_threshold \(now 0\.7\)",
        ),
        (
            rows(0, 60, who="a") + rows(60, 60, who="b"),
            {"validation": rows(120, 30, who="c"), "test": rows(150, 30, who="c")},
            {"group_column": "who"},
            r"validation part has no row: 30 rows were left out whose group.*group_column \(now 'who'\)",
        ),
        (
            rows(0, 60),
            {"test": [row for row in rows(60, 30) if row["label"] != "fine"]},
            {},
            "class 'fine' has no row in the test part of 24 rows: the source's own test split brings none",
        ),
    ],
)
def test_a_split_without_rows_is_refused_with_what_emptied_it(
    train: list[Row], others: dict[str, list[Row]], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        prepare(tmp_path, train, others, **settings)
    assert not (tmp_path / "dataset").exists()


def test_a_class_of_three_rows_has_one_in_every_split_whatever_the_shares(tmp_path: Path) -> None:
    source = [*rows(0, 300), *({"text": f"x{n} y{n} z{n}", "label": "rare"} for n in range(3))]
    summary = prepare(tmp_path, source, train_test_split_ratio=0.6, validation_split_ratio=0.6)
    assert [counts["rare"] for counts in summary.rows_per_class.values()] == [1, 1, 1]
