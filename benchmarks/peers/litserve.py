"""LitServe with batching: up to 16 requests, collected for up to 10 ms, in bf16 where the processor has it."""

from __future__ import annotations

import sys
from typing import Any

import litserve
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from miniml.processor import has_bf16


class Api(litserve.LitAPI):  # type: ignore[misc]  # it ships no types that mypy reads
    """The four steps that LitServe asks for."""

    def setup(self, device: str) -> None:
        dtype = torch.bfloat16 if has_bf16(torch.device("cpu")) else torch.float32
        self._tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
        self._model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], dtype=dtype).eval()

    def decode_request(self, request: dict[str, str]) -> str:
        return request["text"]

    def predict(self, texts: list[str]) -> list[list[float]]:
        encoded = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            rows: list[list[float]] = torch.softmax(self._model(**encoded).logits.float(), dim=-1).tolist()
        return rows

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        return output

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        return {"probabilities": output}


if __name__ == "__main__":
    api = Api(max_batch_size=16, batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="error", generate_client_file=False)
