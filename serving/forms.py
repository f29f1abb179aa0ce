"""How the answers of each task look: V2's tensors, the schemas of the rest, and the words of the page."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel

from miniml.model.attribution import Piece
from serving import schemas

# More labels than these are counted rather than named at the head of the page.
MAX_LABELS = 8


@dataclass(frozen=True)
class Tensor:
    """An output of V2. Its data are a list, not an array: KServe 0.21 cannot put arrays into a gRPC answer."""

    datatype: str
    shape: list[int]
    data: list[Any]


class Form(ABC):
    """Of one task's answers. Labels are the model's, predictions those of `miniml.model.heads`."""

    outputs: tuple[str, ...]
    """The names of V2's tensors."""
    answer: type[BaseModel]
    explained: type[BaseModel]
    """The answer, and which words pushed it."""
    verb: str
    """What is done with a text, on the page and in the OpenAPI document."""
    bars: str = ""
    """What the bars on the page are, for those who do not see them."""

    @abstractmethod
    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Tensor]:
        """V2's outputs by name."""

    def parameters(self, labels: Sequence[str]) -> dict[str, str] | None:
        """What V2 tells of all outputs: the order of the columns. A parameter can be a string, but no list."""
        return {"labels": json.dumps(labels, ensure_ascii=False)}

    def types(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """What `GET /v2/models/{name}` tells of the outputs; -1 is any number of texts."""
        return [
            {"name": name, "datatype": tensor.datatype, "shape": [-1, *tensor.shape[1:]]}
            for name, tensor in self.tensors([], labels).items()
        ]

    def explanation(self, prediction: Any, of: str, pieces: Sequence[Piece]) -> BaseModel:
        """The answer of `POST /explain`. The pieces are `of` this label; of a number, of none."""
        return self.explained(**asdict(prediction), pieces=_as_dicts(pieces))

    def told(self, labels: Sequence[str]) -> str:
        """What the model tells of a text, in words."""
        more = [f"{len(labels) - MAX_LABELS} more"] if len(labels) > MAX_LABELS else []
        return f"{len(labels)} {self.kind}: {', '.join([*labels[:MAX_LABELS], *more])}"

    kind: str = "classes"


class ClassForm(Form):
    """A text has one class."""

    outputs = ("label", "score", "probabilities")
    answer = schemas.Answer
    explained = schemas.ExplainedAnswer
    verb = "Classify"
    bars = "Probability of each class"

    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Tensor]:
        count = len(predictions)
        return {
            "label": Tensor("BYTES", [count], [prediction.label for prediction in predictions]),
            "score": Tensor("FP32", [count], [prediction.score for prediction in predictions]),
            "probabilities": _probabilities(predictions, labels),
        }


class LabelsForm(Form):
    """A text may have several labels, or none."""

    outputs = ("selected", "probabilities")
    answer = schemas.LabelsAnswer
    explained = schemas.ExplainedLabelsAnswer
    verb = "Label"
    bars = "Probability of each label"
    kind = "labels, of which a text may have several"

    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Tensor]:
        selected = [label in prediction.labels for prediction in predictions for label in labels]
        return {
            "selected": Tensor("BOOL", [len(predictions), len(labels)], selected),
            "probabilities": _probabilities(predictions, labels),
        }

    def explanation(self, prediction: Any, of: str, pieces: Sequence[Piece]) -> BaseModel:
        return self.explained(**asdict(prediction), explained=of, pieces=_as_dicts(pieces))


class NumberForm(Form):
    """A text has a number."""

    outputs = ("value",)
    answer = schemas.NumberAnswer
    explained = schemas.ExplainedNumberAnswer
    verb = "Rate"

    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Tensor]:
        values = [prediction.value for prediction in predictions]
        return {"value": Tensor("FP32", [len(predictions)], values)}

    def parameters(self, labels: Sequence[str]) -> dict[str, str] | None:
        return None

    def told(self, labels: Sequence[str]) -> str:
        return "a number for each text"


FORMS: dict[str, Form] = {
    "class": ClassForm(),
    "labels": LabelsForm(),
    "number": NumberForm(),
}
"""By the name that a task gives as its `output_adapter`."""


def _as_dicts(pieces: Sequence[Piece]) -> list[Any]:
    return [asdict(piece) for piece in pieces]


def _probabilities(predictions: Sequence[Any], labels: Sequence[str]) -> Tensor:
    shares = [share for prediction in predictions for share in prediction.probabilities.values()]
    return Tensor("FP32", [len(predictions), len(labels)], shares)
