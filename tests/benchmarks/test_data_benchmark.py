"""The benchmark of transform measures what it says, and its page calls a missed aim missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet

from benchmarks import reviews
from benchmarks.data import measure_example
from benchmarks.data_page import aims, data_section
from miniml.data import tables

FORMS = ["hub, the first time", "hub, from its cache", "save_to_disk", "CSV", "Parquet shards"]


def recorded(seconds: float, peak_mib: float) -> dict[str, Any]:
    """A made-up run in which the example takes so long, and so much memory, in its last form."""
    point = {"rows": 700_000, "seconds": 10.0, "peak_mib": 300.0, "start_mib": 150.0, "source_mib": 500.0}
    example = [{**point, "form": form} for form in FORMS]
    example[-1] |= {"seconds": seconds, "peak_mib": peak_mib}
    return {
        "machine": {"processor": "P", "cores": 2, "python": "3", "versions": "V 1", "date": "2026-01-01"},
        "command": "make bench-data",
        "points": [
            {**point, "form": form, "rows": rows} for rows in (100_000, 650_000) for form in ("csv", "parquet")
        ],
        "example": example,
        "leaks": {
            "rows": 100_000, "planted": 1000, "dropped": 1000, "recall": 1.0, "precision": 1.0, "seconds": 17.0,
            "peak_mib": 400.0, "recall_by_edit": {"case": 1.0},
        },
    }  # fmt: skip


def test_the_aims_hold_for_the_example_in_every_form() -> None:
    assert all(met for *_, met in aims(recorded(seconds=20, peak_mib=900)))
    missed = [what for what, *_, met in aims(recorded(seconds=30, peak_mib=1100)) if not met]
    assert missed == ["the example's peak in any form, MiB", "the example's rows/s in any form"]


def test_the_page_tells_the_example_in_every_form() -> None:
    section = data_section(recorded(seconds=20, peak_mib=900))
    assert "700,000 reviews, of which 1,000 are drawn" in section
    assert "| hub, the first time | 10.0 | **70,000** | **300** | 150 |" in section
    assert "| Parquet shards | 20.0 | **35,000** | **900** | 150 |" in section


def test_the_example_is_measured_in_every_form_and_leaves_nothing_behind(tmp_path: Path) -> None:
    measured = measure_example(tmp_path, {"train": 4000, "test": 1000})
    assert [point["form"] for point in measured] == FORMS
    assert [point["rows"] for point in measured] == [5000] * 5
    hub, cached, saved, csv, shards = (point["fingerprint"] for point in measured)
    assert hub == cached == saved
    assert len({hub, csv, shards}) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_reviews_are_the_same_every_time_and_every_star_is_as_frequent(tmp_path: Path) -> None:
    rows = {"train": 60_000, "test": 1000}
    for name in ("one", "other"):
        reviews.write_hub(tmp_path / name, rows)
    one, other = (reviews.repository(tmp_path / name) / "yelp_review_full" for name in ("one", "other"))
    tables_of_one = [pyarrow.parquet.read_table(file) for file in sorted(one.iterdir())]
    assert tables_of_one == [pyarrow.parquet.read_table(file) for file in sorted(other.iterdir())]
    test, train = tables_of_one
    assert train.column("label").value_counts().field("counts").to_pylist() == [12_000] * 5
    numbers = [
        reviews.number_of(text) for table in (train, test) for text in table.column("text").to_pylist()
    ]
    assert numbers == list(range(61_000))
    assert len(list(tables.read(str(one), tmp_path)[0])) == 2
