"""Holds the request for a data report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReportRequest:
    """The request for a data report."""

    path: Path
    """The HTML file to write."""
    model_id: str
    """The model in whose tokens the report measures texts."""
    max_length: int
    """The number of tokens that the model reads of a text."""
