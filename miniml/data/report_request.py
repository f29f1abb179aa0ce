"""What a data report is asked for with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReportRequest:
    """Where the data report goes, and the model in whose tokens it measures texts."""

    path: Path
    model_id: str
    max_length: int
