"""Defines the metrics at `/metrics` for Prometheus, in addition to KServe's four histograms."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, Info

REQUESTS = Counter(
    "miniml_requests", "Requests that asked the model, by protocol and outcome.", ["protocol", "outcome"]
)
LATENCY = Histogram(
    "miniml_request_seconds",
    "From the last byte of a request to the first of its answer.",
    ["protocol"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
QUEUED = Gauge("miniml_queue_texts", "Texts that wait for the engine.")
WAIT = Histogram(
    "miniml_queue_wait_seconds",
    "How long a text waited for the engine.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
BATCH_TEXTS = Histogram("miniml_batch_texts", "Texts in one batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128))
BATCH_TOKENS = Histogram(
    "miniml_batch_tokens",
    "Tokens in one batch, padding included.",
    buckets=(64, 256, 512, 1024, 2048, 4096, 8192),
)
CACHE = Counter("miniml_cache", "Texts looked up in the cache, by result (hit or miss).", ["result"])
LABELS = Counter("miniml_predicted", "Texts by their predicted label.", ["label"])
MODEL = Info("miniml_model", "The model that answers: its digest, its engine and miniml's version.")
