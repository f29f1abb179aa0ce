"""A made-up machine for the made-up results of benchmarks."""

from __future__ import annotations

MACHINE = {
    "processor": "P",
    "kind": "avx2",
    "cores": 2,
    "python": "3",
    "versions": "V 1",
    "date": "2026-01-01",
}
