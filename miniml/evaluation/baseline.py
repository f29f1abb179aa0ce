"""Trains a simple model to compare with: TF-IDF features of words and a linear model.

An encoder has to beat it to be worth its cost. The features are scikit-learn's `TfidfVectorizer`, with sublinear term
frequencies: https://scikit-learn.org/stable/modules/feature_extraction.html#tfidf-term-weighting
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from miniml.sampling import evenly_spaced

# More rows and words make it a little better and much slower: with these it takes well under a minute.
MAX_ROWS = 20_000
MAX_WORDS = 50_000
MAX_STEPS = 100
# Less than scikit-learn's own regularisation: rows of TF-IDF have length 1, and their weights have to be large.
INVERSE_REGULARISATION = 10.0
# A token is a word, a punctuation mark, or a character of a script that puts no blanks between words.
WORD = r"[\u3040-\u9fff]|[^\W\u3040-\u9fff]+|[^\w\s]"


class Baseline(ABC):
    """A linear model of the TF-IDF of words and pairs of words; each task has a subclass."""

    kind: ClassVar[str]
    """The kind of the linear model, as the report names it."""

    def __init__(self, labels: int) -> None:
        """
        Args:
            labels: The number of classes or labels; 1 in a regression.
        """
        self.labels = labels
        self._words = TfidfVectorizer(
            token_pattern=WORD,
            ngram_range=(1, 2),
            max_features=MAX_WORDS,
            sublinear_tf=True,
            dtype=np.float32,
        )
        self.rows = 0
        """The number of rows that it was trained on."""

    @property
    def name(self) -> str:
        """The baseline's name in the report, with the number of its training rows."""
        return f"TF-IDF with {self.kind}, {self.rows:,} training rows"

    def fit(self, texts: Sequence[str], labels: Sequence[Any] | npt.NDArray[Any]) -> Self:
        """Trains on the rows; where there are more than `MAX_ROWS`, on that many of them, evenly spaced.

        Args:
            texts: The rows' texts.
            labels: Their labels, in the form of `miniml.evaluation.predictions.Predictions.references`.
        """
        taken = evenly_spaced(len(texts), MAX_ROWS)
        self.rows = len(taken)
        vectors = self._words.fit_transform([texts[row] for row in taken])
        with warnings.catch_warnings():
            # Stopping early bounds the time, and costs a little accuracy.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.learn(vectors, np.array([labels[row] for row in taken]))
        return self

    def predict_probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Predicts the texts' labels.

        Returns:
            Probabilities, shape [len(texts), labels]; a class without a training row has probability 0. In a
            regression the numbers, shape [len(texts), 1].
        """
        return self.outputs(self._words.transform(texts))

    @abstractmethod
    def learn(self, vectors: Any, labels: npt.NDArray[Any]) -> None:
        """Trains the linear model.

        Args:
            vectors: The TF-IDF of each row, a sparse matrix of shape [rows, words].
            labels: The rows' labels, in the form of `Predictions.references`.
        """

    @abstractmethod
    def outputs(self, vectors: Any) -> npt.NDArray[np.float32]:
        """Returns what `predict_probabilities` does, from vectors of shape [rows, words]."""


def logistic_regression() -> Any:
    """Returns an untrained logistic regression, regularised as suits TF-IDF.

    See https://scikit-learn.org/stable/modules/generated/sklearn.linear_model.LogisticRegression.html
    """
    return LogisticRegression(C=INVERSE_REGULARISATION, max_iter=MAX_STEPS)
