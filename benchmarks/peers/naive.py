"""The naive API, as miniml's prototype had it: one synchronous FastAPI route around a transformers pipeline."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

app = FastAPI()
model_dir, port = sys.argv[1], int(sys.argv[2])
classify = pipeline("text-classification", model=model_dir, device="cpu", top_k=None)


class Question(BaseModel):
    text: str


@app.post("/predict")
def predict(question: Question) -> Any:
    return classify([question.text], truncation=True)[0]


uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")
