"""Texts that are nearly the same: found, and kept out of training."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from benchmarks.data import Writer, find_leaks, plant_leaks
from miniml.data import preparation, prepared
from miniml.data.near_duplicates import PERMUTATIONS, rows_per_band
from miniml.errors import InputError
from miniml.settings.data import DataSettings


def write(folder: Path, **splits: list[str]) -> Path:
    """A saved dataset of these texts, under two labels in turns."""
    tables = {
        name: datasets.Dataset.from_dict({"text": texts, "label": [n % 2 for n in range(len(texts))]})
        for name, texts in splits.items()
    }
    datasets.DatasetDict(tables).save_to_disk(str(folder / "source"))
    return folder / "source"


@pytest.fixture(scope="module")
def reviews() -> list[str]:
    writer = Writer(seed=3, sentences=2000, vocabulary=3000)
    return [writer.review() for _ in range(60)]


def prepare(source: Path, folder: Path, **settings: object) -> prepared.DatasetSummary:
    return preparation.prepare(DataSettings(dataset_id=str(source), **settings), folder / "dataset")  # type: ignore[arg-type]


def test_planted_leaks_are_found_and_what_shares_half_a_text_is_not(tmp_path: Path) -> None:
    planted = plant_leaks(tmp_path, rows=3000, share=0.02)
    leaks = find_leaks(tmp_path, tmp_path / "dataset", planted)
    assert leaks["planted"] == 60
    assert leaks["recall"] >= 0.95, leaks
    assert leaks["precision"] == 1


def test_training_gives_way_to_the_test_which_loses_nothing(reviews: list[str], tmp_path: Path) -> None:
    copy = reviews[40].replace(".", "!").lower()
    source = write(tmp_path, train=[copy, *reviews[:40]], test=reviews[40:])
    summary = prepare(source, tmp_path)
    assert summary.dropped == {"near_duplicate": 1}
    assert summary.rows["test"] == 20
    splits, _ = prepared.load(tmp_path / "dataset")
    assert copy not in [*splits["train"]["text"], *splits["validation"]["text"]]


def test_they_can_be_told_only_or_not_looked_for(reviews: list[str], tmp_path: Path) -> None:
    source = write(tmp_path, train=[reviews[40].upper(), *reviews[:40]], test=reviews[40:])
    summary = prepare(source, tmp_path, near_duplicates="report")
    assert (summary.found["near_duplicate"], summary.dropped, sum(summary.rows.values())) == (1, {}, 61)
    assert prepare(source, tmp_path, near_duplicates="off").found == {}


def test_within_a_split_they_are_told_and_stay(reviews: list[str], tmp_path: Path) -> None:
    source = write(tmp_path, train=reviews[:40], test=[*reviews[40:], reviews[59].upper()])
    summary = prepare(source, tmp_path)
    assert summary.dropped == {}
    assert summary.found == {"near_duplicate_within": 1, "near_duplicate_conflict": 1}
    assert summary.rows["test"] == 21


def test_a_text_that_a_whole_crowd_repeats_leaves_training_altogether(
    reviews: list[str], tmp_path: Path
) -> None:
    crowd = [f"{reviews[40]} extra{n}" for n in range(45)]
    summary = prepare(write(tmp_path, train=[*crowd, *reviews[:40]], test=reviews[40:]), tmp_path)
    assert summary.dropped == {"near_duplicate": 45}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The food was good.", "The food was not good."),
        ("Great!", "Awful!"),
        ("この映画はとても良かったです", "この映画はとても悪かったです"),
        (":-)", ":-("),
    ],
)
def test_short_texts_that_say_something_else_are_none(
    one: str, other: str, reviews: list[str], tmp_path: Path
) -> None:
    source = write(tmp_path, train=[one, *reviews[:40]], test=[other, *reviews[40:]])
    assert "near_duplicate" not in prepare(source, tmp_path).found


def test_words_need_no_spaces_between_them(reviews: list[str], tmp_path: Path) -> None:
    text = "昨日友達と一緒に新しいレストランへ行きましたが料理はとても美味しくて店員も親切でした"
    source = write(tmp_path, train=[f"{text}よ", *reviews[:40]], test=[text, *reviews[40:]])
    assert prepare(source, tmp_path).dropped == {"near_duplicate": 1}


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_the_bands_find_what_is_at_the_threshold(threshold: float) -> None:
    width = rows_per_band(threshold)
    assert 1 - (1 - threshold**width) ** (PERMUTATIONS // width) >= 0.995


def test_a_split_that_they_empty_is_refused_with_their_threshold(tmp_path: Path) -> None:
    words = ("bad", "good")
    rows = [
        f"the food was {words[n % 2]} and the staff {words[n % 2]} {n},{words[n % 2]}" for n in range(120)
    ]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]))
    with pytest.raises(
        InputError, match=r"had a near-duplicate in a later.*near_duplicate_threshold \(now 0.7\)"
    ):
        prepare(tmp_path / "reviews.csv", tmp_path)
