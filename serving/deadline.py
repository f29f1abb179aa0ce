"""How long the client of the request at hand still waits; each protocol's edge sets it, and the predictor reads it."""

from __future__ import annotations

from contextvars import ContextVar

remaining: ContextVar[float | None] = ContextVar("remaining", default=None)
"""In seconds, as the client said when it asked; None where it set no deadline."""
