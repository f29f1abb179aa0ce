"""Explains which words pushed an answer: occlusion, whose texts go through the queue as any request's do."""

from __future__ import annotations

from dataclasses import dataclass

from miniml.model.attribution import Attribution
from miniml.model.occlusion import Occlusion
from miniml.task import Prediction

from .inference import Inference
from .limits import require_within

# The number of shortened texts that one explanation may run. With more words, neighbours are left out together.
MAX_RUNS = 48


@dataclass(frozen=True)
class Explanation:
    """The answer to one text, and the pieces that together make up the text."""

    prediction: Prediction
    pieces: list[Attribution]
    label: str
    """The label that the pieces speak for or against; "" where the answer is a number."""


async def explain(inference: Inference, text: str, *, timeout_s: float | None = None) -> Explanation:
    """Answers `text`, and then the text without each of its words in turn.

    Words are the tokenizer's. The model does not read those beyond its maximal length, and so they have no effect. An
    explanation takes at most 49 texts, or as many as a request may have, or as the queue may hold.

    Args:
        inference: Answers the texts.
        text: The text to explain.
        timeout_s: The seconds that the client has left, or None where it set no deadline.

    Raises:
        InvalidInput: The text is too long, or has no token.
        OverloadedError: The queue is full, or the answer would come too late.
        InferenceError: The model failed.
    """
    require_within(inference.limits, [text])
    max_runs = min(MAX_RUNS, inference.max_texts - 1)
    async with inference.within(timeout_s):
        occlusion = Occlusion(text, await inference.words(text), max_runs)
        whole, *rows = await inference.probabilities([text, *occlusion.shortened], timeout_s=timeout_s)
    head = inference.classifier.head
    place = head.attribution_target(whole)
    pieces = occlusion.pieces(float(whole[place]), [float(row[place]) for row in rows], head.link)
    label = head.labels[place] if head.labels else ""
    return Explanation(inference.classifier.prediction(whole), pieces, label)
