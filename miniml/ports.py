"""Defines the predictor's default ports."""

from __future__ import annotations

HTTP_PORT = 8080
"""The port of the protocols V1 and V2, and of miniml's own routes."""
GRPC_PORT = 8081
"""The port of V2 over gRPC."""
