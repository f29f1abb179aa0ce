"""What words alone tell: TF-IDF with logistic regression, which an encoder has to beat to be worth its price."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

# More rows and words make it a little better and much slower: with these it takes well under a minute.
MOST_ROWS = 20_000
MOST_WORDS = 50_000
MOST_STEPS = 100
# Less than scikit-learn's own regularisation: rows of TF-IDF have length 1, and their weights have to be large.
INVERSE_REGULARISATION = 10.0
# A word; a sign; and each character of the scripts that put no blanks between words.
WORD = r"[\u3040-\u9fff]|[^\W\u3040-\u9fff]+|[^\w\s]"


class Baseline:
    """A classifier of single words and pairs of them."""

    def __init__(self, labels: int) -> None:
        self._labels = labels
        self._words = TfidfVectorizer(
            token_pattern=WORD,
            ngram_range=(1, 2),
            max_features=MOST_WORDS,
            sublinear_tf=True,
            dtype=np.float32,
        )
        self._model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=MOST_STEPS)
        self.rows = 0
        """How many rows it was trained on."""

    @property
    def name(self) -> str:
        return f"TF-IDF with logistic regression, {self.rows:,} training rows"

    def fit(self, texts: Sequence[str], labels: Sequence[int]) -> Baseline:
        """Trains on the rows, or on as many as it takes, drawn evenly."""
        taken = np.linspace(0, len(texts) - 1, min(len(texts), MOST_ROWS)).astype(int)
        self.rows = len(taken)
        vectors = self._words.fit_transform([texts[row] for row in taken])
        with warnings.catch_warnings():
            # Stopped early it is a little worse than it could be, and the time is bounded.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(vectors, [labels[row] for row in taken])
        return self

    def predict_probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Shape [len(texts), labels]; a class that it never saw has probability 0."""
        found = np.zeros((len(texts), self._labels), dtype=np.float32)
        found[:, self._model.classes_] = self._model.predict_proba(self._words.transform(texts))
        return found
