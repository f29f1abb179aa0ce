"""Defines the schemas of requests and answers, for FastAPI's validation and the OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

Probability = Annotated[float, Field(ge=0, le=1)]


class TextRequest(BaseModel):
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


class LabelsAnswer(BaseModel):
    """The labels that the text is given, and every label's probability."""

    labels: list[str] = Field(description="In the model's order; there may be none.")
    probabilities: dict[str, Probability] = Field(
        description="By label, in the model's order, each by itself: they need not sum to 1."
    )


class ExplainedLabelsAnswer(LabelsAnswer):
    """The answer, and which words pushed the most probable label."""

    method: Literal["occlusion"] = "occlusion"
    explained: str = Field(description="The label that effects and scores of the pieces are of.")
    pieces: list[ExplainedPiece] = Field(description="One after the other they make up the text.")


class NumberAnswer(BaseModel):
    """The number that the model gives the text."""

    value: float = Field(description="In the unit of the labels that the model was trained on.")


class NumberPiece(BaseModel):
    """A part of the text, and what it did to the number."""

    text: str
    effect: float | None = Field(
        description="By how much the number falls without this piece. Null where the model does not read the piece."
    )
    score_without: float | None = Field(description="The number without this piece.")


class ExplainedNumberAnswer(NumberAnswer):
    """The answer, and which words pushed it."""

    method: Literal["occlusion"] = "occlusion"
    pieces: list[NumberPiece] = Field(description="One after the other they make up the text.")


class ErrorResponse(BaseModel):
    """The answer of every route to an error."""

    error: str


class V1Request(BaseModel):
    """Texts, each as a string or as an object."""

    instances: list[str | TextRequest] = Field(min_length=1)


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


@dataclass(frozen=True)
class Protocols:
    """The schemas of V1's answer, and of V2's request and answer, for one task."""

    v1_answer: type[BaseModel]
    v2_request: type[BaseModel]
    v2_answer: type[BaseModel]

    @classmethod
    def of(cls, answer: type[BaseModel], outputs: dict[str, str]) -> Protocols:
        """Makes the schemas of a task.

        Args:
            answer: The schema of one answer.
            outputs: V2's datatype of each output, by name.
        """
        # The model decides on the names, so type checkers cannot follow these types.
        name: Any = Literal[*outputs]
        datatypes = tuple(dict.fromkeys(outputs.values()))
        datatype: Any = Literal[*datatypes]
        data: Any = reduce(or_, (_DATA[each] for each in datatypes))
        wanted: Any = create_model("V2WantedOutput", __doc__="An output to answer with.", name=(name, ...))
        wanted_ones: Any = list[wanted] | None
        output: Any = create_model(
            "V2Output",
            __doc__="One output; its shape begins with the number of texts.",
            name=(name, ...),
            shape=(list[int], ...),
            datatype=(datatype, ...),
            data=(data, ...),
        )
        return cls(
            create_model(
                "V1Answer",
                __doc__="The answers, in the order of the texts.",
                predictions=(list[answer], ...),  # type: ignore[valid-type]
            ),
            create_model(
                "V2Request",
                __doc__="An inference request with one input.",
                id=(str | None, Field(None, description="Comes back with the answer.")),
                inputs=(list[V2Input], Field(min_length=1, max_length=1)),
                outputs=(wanted_ones, Field(None, description="Those wanted; all by default.")),
            ),
            create_model(
                "V2Answer",
                __doc__="An inference answer. Its parameter `labels`, where there are any, tells their order, as JSON.",
                model_name=(str, ...),
                id=(str, ...),
                parameters=(dict[str, Any] | None, None),
                outputs=(list[output], ...),
            ),
        )


_DATA = {"BYTES": list[str], "FP32": list[float], "BOOL": list[bool]}
"""JSON's type for each of V2's datatypes."""
