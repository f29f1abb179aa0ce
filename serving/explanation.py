"""Which words pushed an answer: `miniml.model.occlusion`, asked through the queue as any other request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from miniml.model.attribution import Piece
from miniml.model.occlusion import Occlusion
from serving.inference import Inference
from serving.limits import require_within

# Texts that one explanation may cost. Beyond as many words, neighbours are left out together.
MAX_RUNS = 48


@dataclass(frozen=True)
class Explanation:
    """The answer for one text, and the pieces that, one after the other, make up that text."""

    prediction: Any
    pieces: list[Piece]
    of: str
    """The label that the pieces speak for or against; empty where the answer is a number."""


async def explain(inference: Inference, text: str, *, timeout_s: float | None = None) -> Explanation:
    """Answers `text`, and then leaves out each of its words in turn.

    Words are the tokenizer's. Those beyond the model's maximal length are not read, and have no effect. One
    explanation asks for at most 49 texts, or as many as a request may have, or as may wait.

    Raises:
        InvalidInput: the text is longer than a text may be, or has no token.
        OverloadedError: as `Inference.predict` raises it.
        InferenceError: likewise.
    """
    require_within(inference.limits, [text])
    most = min(MAX_RUNS, inference.most_texts - 1)
    async with inference.within(timeout_s):
        occlusion = Occlusion(text, await inference.words(text), most)
        whole, *rows = await inference.probabilities([text, *occlusion.shortened], timeout_s=timeout_s)
    head = inference.classifier.head
    place = head.focus(whole)
    pieces = occlusion.pieces(float(whole[place]), [float(row[place]) for row in rows], head.evidence)
    of = head.labels[place] if head.labels else ""
    return Explanation(inference.classifier.prediction(whole), pieces, of)
