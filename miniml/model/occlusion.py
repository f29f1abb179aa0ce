"""Which words pushed an answer, by occlusion: what the model says of the text without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from miniml.model.attribution import Piece
from miniml.model.classifier import Classifier, Span


class Occlusion:
    """A text, and what is left of it without each of its words.

    Beyond `most` words, neighbours are left out together.
    """

    def __init__(self, text: str, words: Sequence[Span], most: int) -> None:
        self.text = text
        self._runs = _runs(words, most)
        begin, end = (self._runs[0][0], self._runs[-1][1]) if self._runs else (0, 0)
        # What is not read stays out, or it would move into the place of what is left out.
        self.shortened = [text[begin : run[0]] + text[run[1] : end] for run in self._runs]
        """The texts to ask the model about, beside the whole one."""

    def pieces(
        self, score: float, without: Sequence[float], evidence: Callable[[float], float]
    ) -> list[Piece]:
        """What, one after the other, makes up the text.

        Args:
            score: What the model gives the whole text: the probability of the answer's label, or a number.
            without: The same for each of `shortened`.
            evidence: Of such a score; what the effects are differences of (see `miniml.model.heads.Head.evidence`).
        """
        told = {
            run: (evidence(score) - evidence(left), left)
            for run, left in zip(self._runs, without, strict=True)
        }
        return [
            Piece(self.text[slice(*span)], *told.get(span, ()))
            for span in _covering(self._runs, len(self.text))
        ]


def explain(classifier: Classifier, text: str, place: int, most: int, *, denied: bool = False) -> list[Piece]:
    """The pieces of `text`, and what each did for the output at `place`, at the cost of at most `most` + 1 texts.

    Where the answer is that the label at `place` is not given, it is `denied`: the effects are those on that answer.
    """
    occlusion = Occlusion(text, classifier.words(text), most)
    scores = classifier.predict_probabilities([text, *occlusion.shortened])[:, place].tolist()
    score, *without = [1 - score for score in scores] if denied else scores
    return occlusion.pieces(score, without, classifier.head.evidence)


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
