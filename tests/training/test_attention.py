"""Attention text by text is attention: the same answers and gradients as torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from miniml.training.attention import ENCODERS, NAME, attend_text_by_text

CPU = torch.device("cpu")
LENGTHS = (9, 3, 1, 7)


def encoder(kind: str) -> Any:
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    if kind == "distilbert":
        sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    config = AutoConfig.for_model(kind, vocab_size=50, pad_token_id=0, num_labels=3, **sizes)
    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    return model.eval()


def batch() -> dict[str, torch.Tensor]:
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(5, 50, mask.shape, generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids * mask, "attention_mask": mask}


def answers_and_gradients(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    logits = model(**inputs).logits
    loss: Any = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0]))
    loss.backward()
    gradients = [weights.grad.flatten() for weights in model.parameters() if weights.grad is not None]
    return logits.detach(), torch.cat(gradients)


@pytest.mark.parametrize("kind", ENCODERS)
def test_answers_and_gradients_are_those_of_torchs_own(kind: str) -> None:
    model, inputs = encoder(kind), batch()
    expected = answers_and_gradients(model, inputs)
    attend_text_by_text(model, "right", CPU, bf16=True, dropout=0.0)
    assert model.config._attn_implementation == NAME
    for found, wanted in zip(answers_and_gradients(model, inputs), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_in_bf16_it_rounds_no_more_than_torchs_own() -> None:
    model, inputs = encoder("bert"), batch()
    exact = answers_and_gradients(model, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        torchs = answers_and_gradients(model, inputs)
        attend_text_by_text(model, "right", CPU, bf16=True, dropout=0.0)
        ours = answers_and_gradients(model, inputs)
    for found, other, wanted in zip(ours, torchs, exact, strict=True):
        assert (found - wanted).norm() <= 1.5 * (other - wanted).norm()


@pytest.mark.parametrize(
    ("kind", "padding_side", "device", "bf16", "dropout"),
    [
        ("modernbert", "right", CPU, True, 0.0),  # attends to a window in some layers
        ("bert", "left", CPU, True, 0.0),
        ("bert", "right", torch.device("cuda"), True, 0.0),
        ("bert", "right", CPU, False, 0.0),
        ("bert", "right", CPU, True, 0.1),
    ],
)
def test_where_it_would_differ_or_be_slower_the_model_attends_as_it_did(
    kind: str, padding_side: str, device: torch.device, bf16: bool, dropout: float
) -> None:
    model = encoder(kind)
    before = model.config._attn_implementation
    attend_text_by_text(model, padding_side, device, bf16, dropout)
    assert model.config._attn_implementation == before


def test_a_saved_model_knows_nothing_of_it(tmp_path: Any) -> None:
    model = encoder("bert")
    attend_text_by_text(model, "right", CPU, bf16=True, dropout=0.0)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.config._attn_implementation == "sdpa"
