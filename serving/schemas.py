"""What requests and answers look like: FastAPI checks ours by it, and the OpenAPI document tells all of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Probability = Annotated[float, Field(ge=0, le=1)]


class Question(BaseModel):
    """One text to classify."""

    text: str


class Answer(BaseModel):
    """The most probable label, and every label's probability."""

    label: str
    score: Probability = Field(description="The probability of `label`.")
    probabilities: dict[str, Probability] = Field(
        description="By label, in the model's order; they sum to 1."
    )


class ExplainedPiece(BaseModel):
    """A part of the text, and what it did to the answer."""

    text: str
    effect: float | None = Field(
        description="By how much the log-odds of `label` fall without this piece: above 0 it speaks for the label, "
        "below 0 against it. Null where the model does not read the piece."
    )
    score_without: Probability | None = Field(description="The probability of `label` without this piece.")


class ExplainedAnswer(Answer):
    """The answer, and which words pushed it."""

    method: Literal["occlusion"] = Field(
        "occlusion", description="Words are left out in turn; in a long text, a few neighbours together."
    )
    pieces: list[ExplainedPiece] = Field(description="One after the other they make up the text.")


class Refusal(BaseModel):
    """What every error answers, whatever the route."""

    error: str


class V1Request(BaseModel):
    """Texts, each by itself or as an object."""

    instances: list[str | Question] = Field(min_length=1)


class V1Answer(BaseModel):
    """The answers, in the order of the texts."""

    predictions: list[Answer]


class V1Models(BaseModel):
    """The models that are served."""

    models: list[str]


class V1Ready(BaseModel):
    """Whether the model answers."""

    name: str
    ready: bool


class V2Input(BaseModel):
    """The tensor of texts."""

    name: str
    shape: list[int] = Field(description="[n] or [n, 1], for n texts.")
    datatype: Literal["BYTES"]
    data: list[str]


class V2WantedOutput(BaseModel):
    """An output to answer with."""

    name: Literal["label", "score", "probabilities"]


class V2Request(BaseModel):
    """An inference request with one input."""

    id: str | None = Field(None, description="Comes back with the answer.")
    inputs: list[V2Input] = Field(min_length=1, max_length=1)
    outputs: list[V2WantedOutput] | None = Field(None, description="Those wanted; all by default.")


class V2Output(BaseModel):
    """One output: `label` (BYTES, [n]), `score` (FP32, [n]) or `probabilities` (FP32, [n, labels])."""

    name: Literal["label", "score", "probabilities"]
    shape: list[int]
    datatype: Literal["BYTES", "FP32"]
    data: list[str] | list[float]


class V2Answer(BaseModel):
    """An inference answer. Its parameter `labels` tells the columns of `probabilities`, as JSON."""

    model_name: str
    id: str
    parameters: dict[str, Any]
    outputs: list[V2Output]
