"""The ports that the predictor listens at, unless it is told others."""

from __future__ import annotations

HTTP_PORT = 8080
"""For the protocols V1 and V2, and our own routes."""
GRPC_PORT = 8081
"""For V2 over gRPC."""
