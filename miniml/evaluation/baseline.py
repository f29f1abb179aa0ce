"""What words alone tell: TF-IDF with a linear model, which an encoder has to beat to be worth its price."""

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

# More rows and words make it a little better and much slower: with these it takes well under a minute.
MAX_ROWS = 20_000
MAX_WORDS = 50_000
MAX_STEPS = 100
# Less than scikit-learn's own regularisation: rows of TF-IDF have length 1, and their weights have to be large.
INVERSE_REGULARISATION = 10.0
# A word; a sign; and each character of the scripts that put no blanks between words.
WORD = r"[\u3040-\u9fff]|[^\W\u3040-\u9fff]+|[^\w\s]"


class Baseline(ABC):
    """A model of single words and pairs of them; each task has its own."""

    kind: ClassVar[str]
    """What it is, beside TF-IDF."""

    def __init__(self, labels: int) -> None:
        self.labels = labels
        self._words = TfidfVectorizer(
            token_pattern=WORD,
            ngram_range=(1, 2),
            max_features=MAX_WORDS,
            sublinear_tf=True,
            dtype=np.float32,
        )
        self.rows = 0
        """How many rows it was trained on."""

    @property
    def name(self) -> str:
        return f"TF-IDF with {self.kind}, {self.rows:,} training rows"

    def fit(self, texts: Sequence[str], labels: Sequence[Any] | npt.NDArray[Any]) -> Self:
        """Trains on the rows, or on as many as it takes, drawn evenly.

        `labels` have the form of `miniml.evaluation.predictions.Predictions.references`.
        """
        taken = np.linspace(0, len(texts) - 1, min(len(texts), MAX_ROWS)).astype(int)
        self.rows = len(taken)
        vectors = self._words.fit_transform([texts[row] for row in taken])
        with warnings.catch_warnings():
            # Stopped early it is a little worse than it could be, and the time is bounded.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.learn(vectors, np.array([labels[row] for row in taken]))
        return self

    def predict_probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Shape [len(texts), labels]; a class that it never saw has probability 0. In a regression numbers, [n, 1]."""
        return self.outputs(self._words.transform(texts))

    @abstractmethod
    def learn(self, vectors: Any, labels: npt.NDArray[Any]) -> None:
        """Trains on the rows' vectors, a sparse matrix of shape [rows, words]."""

    @abstractmethod
    def outputs(self, vectors: Any) -> npt.NDArray[np.float32]:
        """Gives what `predict_probabilities` does of such vectors."""


def logistic_regression() -> Any:
    """Gives a classifier that is not trained yet."""
    return LogisticRegression(C=INVERSE_REGULARISATION, max_iter=MAX_STEPS)
