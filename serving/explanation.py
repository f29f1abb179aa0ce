"""Which words pushed an answer, by occlusion: what the model says of the text without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log

from miniml.classifier import Prediction, Span
from serving.inference import Inference
from serving.limits import require_within

# Texts that one explanation may cost. Beyond as many words, neighbours are left out together.
MOST_RUNS = 48
# No probability counts as nearer to 0 or 1: its log-odds would tell of rounding, not of words.
LEAST = 1e-6


@dataclass(frozen=True)
class Piece:
    """A part of a text, and what it did to the answer."""

    text: str
    effect: float | None = None
    """By how much the log-odds of the answer's label fall where the piece is left out: above 0 it speaks for the
    label, below 0 against it. None where the model does not read the piece."""
    score_without: float | None = None
    """The probability of that label without the piece."""


@dataclass(frozen=True)
class Explanation:
    """The answer for one text, and the pieces that, one after the other, make up that text."""

    prediction: Prediction
    pieces: list[Piece]


async def explain(inference: Inference, text: str, *, timeout_s: float | None = None) -> Explanation:
    """Answers `text`, and then leaves out each of its words in turn.

    Words are the tokenizer's. Those beyond the model's maximal length are not read, and have no effect. One
    explanation asks for at most 49 texts, or as many as a request may have, or as may wait.

    Raises:
        InvalidInput: the text is longer than a text may be.
        OverloadedError: as `Inference.predict` raises it.
        InferenceError: likewise.
    """
    require_within(inference.limits, [text])
    runs = _runs(await inference.words(text), min(MOST_RUNS, inference.most_texts - 1))
    begin, end = (runs[0][0], runs[-1][1]) if runs else (0, 0)
    # What is not read stays out, or it would move into the place of what is left out.
    shortened = [text[begin : run[0]] + text[run[1] : end] for run in runs]
    whole, *rows = await inference.probabilities([text, *shortened], timeout_s=timeout_s)
    prediction = inference.classifier.prediction(whole)
    place = inference.labels.index(prediction.label)
    without = [float(row[place]) for row in rows]
    effects = [_log_odds(prediction.score) - _log_odds(score) for score in without]
    told = {run: (effect, score) for run, effect, score in zip(runs, effects, without, strict=True)}
    pieces = [Piece(text[slice(*span)], *told.get(span, ())) for span in _covering(runs, len(text))]
    return Explanation(prediction, pieces)


def _runs(words: Sequence[Span], most: int) -> list[Span]:
    """Neighbouring `words` put together, each run as long as the others, so that there are at most `most`."""
    if not words or most < 1:
        return []
    count = min(len(words), most)
    edges = [len(words) * number // count for number in range(count + 1)]
    return [(words[first][0], words[beyond - 1][1]) for first, beyond in pairwise(edges)]


def _covering(runs: Sequence[Span], length: int) -> Iterator[Span]:
    """The `runs`, and what lies before, between and after them."""
    done = 0
    for begin, end in [*runs, (length, length)]:
        if begin > done:
            yield done, begin
        if end > begin:
            yield begin, end
        done = end


def _log_odds(probability: float) -> float:
    probability = min(max(probability, LEAST), 1 - LEAST)
    return log(probability / (1 - probability))
