"""Adapts answers to each task: V2's tensors, the schemas of the answers, and the texts of the page."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from miniml.model.attribution import Attribution
from miniml.tasks import MultiLabelPrediction, Prediction, RegressionPrediction, SingleLabelPrediction

from . import schemas

# The page names so many labels, and counts the others.
MAX_LABELS = 8

PredictionT = TypeVar("PredictionT", bound=Prediction)


@dataclass(frozen=True)
class Tensor:
    """An output of V2. The data are a list because KServe 0.21 cannot put arrays into a gRPC answer."""

    datatype: str
    shape: list[int]
    data: list[Any]


class OutputAdapter(ABC, Generic[PredictionT]):
    """Puts one task's predictions into the forms of the protocols and the page.

    Labels are the model's, in its order.
    """

    output_names: tuple[str, ...]
    """The names of V2's output tensors."""
    answer_schema: type[BaseModel]
    """The schema of an answer."""
    explanation_schema: type[BaseModel]
    """The schema of an answer with its explanation."""
    verb: str
    """The verb for answering a text, on the page and in the OpenAPI document."""
    bars_description: str = ""
    """The description of the page's bars, for screen readers."""
    label_noun: str = "classes"
    """The noun for the labels on the page."""

    @abstractmethod
    def tensors(self, predictions: Sequence[PredictionT], labels: Sequence[str]) -> dict[str, Tensor]:
        """Returns V2's outputs for `predictions`, by name."""

    def parameters(self, labels: Sequence[str]) -> dict[str, str] | None:
        """Returns V2's parameters of an answer: the labels, as JSON, because a parameter cannot be a list."""
        return {"labels": json.dumps(labels, ensure_ascii=False)}

    def metadata(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Returns the outputs as `GET /v2/models/{name}` describes them; -1 is any number of texts."""
        return [
            {"name": name, "datatype": tensor.datatype, "shape": [-1, *tensor.shape[1:]]}
            for name, tensor in self.tensors([], labels).items()
        ]

    def explanation(self, prediction: PredictionT, label: str, pieces: Sequence[Attribution]) -> BaseModel:
        """Returns the answer of `POST /explain`.

        Args:
            prediction: The answer to the whole text.
            label: The label that the pieces speak for or against; "" where the answer is a number.
            pieces: The pieces that together make up the text.
        """
        return self.explanation_schema(**asdict(prediction), pieces=_as_dicts(pieces))

    def summary(self, labels: Sequence[str]) -> str:
        """Describes what the model predicts, for the page."""
        more = [f"{len(labels) - MAX_LABELS} more"] if len(labels) > MAX_LABELS else []
        return f"{len(labels)} {self.label_noun}: {', '.join([*labels[:MAX_LABELS], *more])}"


class SingleLabelAdapter(OutputAdapter[SingleLabelPrediction]):
    """The adapter for texts with one class."""

    output_names = ("label", "score", "probabilities")
    answer_schema = schemas.Answer
    explanation_schema = schemas.ExplainedAnswer
    verb = "Classify"
    bars_description = "Probability of each class"

    def tensors(
        self, predictions: Sequence[SingleLabelPrediction], labels: Sequence[str]
    ) -> dict[str, Tensor]:
        count = len(predictions)
        return {
            "label": Tensor("BYTES", [count], [prediction.label for prediction in predictions]),
            "score": Tensor("FP32", [count], [prediction.score for prediction in predictions]),
            "probabilities": _probabilities(predictions, labels),
        }


class MultiLabelAdapter(OutputAdapter[MultiLabelPrediction]):
    """The adapter for texts with any number of labels."""

    output_names = ("selected", "probabilities")
    answer_schema = schemas.LabelsAnswer
    explanation_schema = schemas.ExplainedLabelsAnswer
    verb = "Label"
    bars_description = "Probability of each label"
    label_noun = "labels, of which a text may have several"

    def tensors(
        self, predictions: Sequence[MultiLabelPrediction], labels: Sequence[str]
    ) -> dict[str, Tensor]:
        selected = [label in prediction.labels for prediction in predictions for label in labels]
        return {
            "selected": Tensor("BOOL", [len(predictions), len(labels)], selected),
            "probabilities": _probabilities(predictions, labels),
        }

    def explanation(
        self, prediction: MultiLabelPrediction, label: str, pieces: Sequence[Attribution]
    ) -> BaseModel:
        return self.explanation_schema(**asdict(prediction), explained=label, pieces=_as_dicts(pieces))


class RegressionAdapter(OutputAdapter[RegressionPrediction]):
    """The adapter for texts with a number."""

    output_names = ("value",)
    answer_schema = schemas.NumberAnswer
    explanation_schema = schemas.ExplainedNumberAnswer
    verb = "Rate"

    def tensors(
        self, predictions: Sequence[RegressionPrediction], labels: Sequence[str]
    ) -> dict[str, Tensor]:
        values = [prediction.value for prediction in predictions]
        return {"value": Tensor("FP32", [len(predictions)], values)}

    def parameters(self, labels: Sequence[str]) -> dict[str, str] | None:
        return None

    def summary(self, labels: Sequence[str]) -> str:
        return "a number for each text"


OUTPUT_ADAPTERS: dict[str, OutputAdapter[Any]] = {
    "class": SingleLabelAdapter(),
    "labels": MultiLabelAdapter(),
    "number": RegressionAdapter(),
}
"""The adapters by the name that a task gives as its `output_adapter`."""


def _as_dicts(pieces: Sequence[Attribution]) -> list[Any]:
    return [asdict(piece) for piece in pieces]


def _probabilities(
    predictions: Sequence[SingleLabelPrediction | MultiLabelPrediction], labels: Sequence[str]
) -> Tensor:
    values = [value for prediction in predictions for value in prediction.probabilities.values()]
    return Tensor("FP32", [len(predictions), len(labels)], values)
