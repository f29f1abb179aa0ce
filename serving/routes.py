"""Our routes beside KServe's: `POST /predict` for people, and Swagger to try it from."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from serving import deadline
from serving.inference import Inference
from serving.predictor import checked_text


class Question(BaseModel):
    """One text to classify."""

    text: str = Field(examples=["The staff were friendly and the food was great."])


class Answer(BaseModel):
    """The most probable label, and every label's probability."""

    label: str = Field(examples=["positive"])
    score: float = Field(examples=[0.97], description="The probability of `label`.")
    probabilities: dict[str, float] = Field(examples=[{"negative": 0.03, "positive": 0.97}])


class Refusal(BaseModel):
    """What every error answers, whatever the route."""

    error: str = Field(examples=["text: Field required"])


def predict_route(inference: Inference) -> APIRouter:
    """`POST /predict`, for one text and without a protocol's ceremony."""
    router = APIRouter(tags=["miniml"])

    @router.post("/predict", summary="Classify one text", responses={"4XX": {"model": Refusal}})
    async def predict(question: Question) -> Answer:
        texts = [checked_text("text", question.text)]
        (prediction,) = await inference.predict(texts, timeout_s=deadline.remaining.get())
        return Answer(**asdict(prediction))

    return router


def docs_route(title: str, openapi_url: str) -> APIRouter:
    """`GET /docs`: KServe settles at import whether to have it, by its own default, which is not to."""
    router = APIRouter()

    @router.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(openapi_url=openapi_url, title=title)

    return router
