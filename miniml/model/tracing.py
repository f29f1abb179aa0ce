"""Puts a model into the form that OpenVINO's converter traces."""

from __future__ import annotations

from typing import Any

import torch


class LogitsOnly(torch.nn.Module):
    """A model with two tensors in and one out, as tracing needs it.

    Args:
        model: A classifier of transformers.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Computes the logits of one padded batch, shape [texts, labels]."""
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits
