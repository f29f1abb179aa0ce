"""An inline KServe predictor, as KServe's Hugging Face server is one: model and tokenizer on the event loop."""

from __future__ import annotations

import sys
from typing import Any

import torch
from kserve import Model, ModelServer
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class Inline(Model):  # type: ignore[misc]  # KServe ships no types
    """Answers each request by itself, and nothing else meanwhile."""

    def __init__(self, model_dir: str) -> None:
        super().__init__("peer")
        self._tokenizer = AutoTokenizer.from_pretrained(model_dir)
        self._model = AutoModelForSequenceClassification.from_pretrained(model_dir).eval()
        self.ready = True

    async def predict(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        encoded = self._tokenizer(payload["instances"], padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            probabilities = torch.softmax(self._model(**encoded).logits, dim=-1)
        return {"predictions": probabilities.tolist()}


ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, enable_latency_logging=False).start(
    [Inline(sys.argv[1])]
)
