"""Computes which words led to an answer, by occlusion: the change of the answer when they are left out.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, https://arxiv.org/abs/1311.2901; for
words, Li et al., "Understanding Neural Networks through Representation Erasure", 2016,
https://arxiv.org/abs/1612.08220
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from miniml.model.attribution import Attribution
from miniml.model.classifier import Classifier, Span


class Occlusion:
    """A text, with its variants that each lack one word or a run of neighbouring words."""

    def __init__(self, text: str, words: Sequence[Span], most: int) -> None:
        """
        Args:
            text: The text.
            words: The words of it that the model reads.
            most: The number of variants, at most. With more words than that, neighbours are left out together.
        """
        self.text = text
        self._runs = _runs(words, most)
        begin, end = (self._runs[0][0], self._runs[-1][1]) if self._runs else (0, 0)
        # Truncated words stay out: otherwise they would move into the model's view as others are left out.
        self.shortened = [text[begin : run[0]] + text[run[1] : end] for run in self._runs]
        """The variants of the text."""

    def pieces(
        self, score: float, without: Sequence[float], link: Callable[[float], float]
    ) -> list[Attribution]:
        """Computes the effect of each part of the text.

        Args:
            score: The model's score of the whole text: the probability of the answer's label, or a number.
            without: The score of each of `shortened`.
            link: Maps a score to the scale of the effects (see `miniml.model.heads.Head.link`).

        Returns:
            The parts, which in order make up the text.
        """
        effects = {
            run: (link(score) - link(left), left) for run, left in zip(self._runs, without, strict=True)
        }
        return [
            Attribution(self.text[slice(*span)], *effects.get(span, ()))
            for span in _covering(self._runs, len(self.text))
        ]


def explain(
    classifier: Classifier, text: str, place: int, most: int, *, denied: bool = False
) -> list[Attribution]:
    """Computes the effect of each part of a text on one output of the model.

    Args:
        classifier: The model.
        text: The text.
        place: The index of the output: a label's, or 0 in a regression.
        most: The number of variants of the text to predict, at most, beside the text itself.
        denied: Whether the answer to explain is that the text does not have the label.

    Returns:
        The parts, which in order make up the text.
    """
    occlusion = Occlusion(text, classifier.words(text), most)
    scores = classifier.predict_probabilities([text, *occlusion.shortened])[:, place].tolist()
    score, *without = [1 - score for score in scores] if denied else scores
    return occlusion.pieces(score, without, classifier.head.link)


def _runs(words: Sequence[Span], most: int) -> list[Span]:
    """Joins neighbouring words into at most `most` runs of equal numbers of words."""
    if not words or most < 1:
        return []
    count = min(len(words), most)
    edges = [len(words) * number // count for number in range(count + 1)]
    return [(words[first][0], words[beyond - 1][1]) for first, beyond in pairwise(edges)]


def _covering(runs: Sequence[Span], length: int) -> Iterator[Span]:
    """Yields the runs, and what lies before, between and after them."""
    done = 0
    for begin, end in [*runs, (length, length)]:
        if begin > done:
            yield done, begin
        if end > begin:
            yield begin, end
        done = end
