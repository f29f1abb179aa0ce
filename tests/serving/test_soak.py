"""A soak: full load over every protocol for a while, with flat memory and no failed request.

`MINIML_SOAK_REQUESTS=100000 python -m pytest --timeout=0 tests/serving/test_soak.py -s` soaks for longer, and tells
what it saw.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import patience
from tests.load import full_load
from tests.predictor import Server, running

REQUESTS = int(os.environ.get("MINIML_SOAK_REQUESTS", "3000"))
WARM_UP = 0.4  # of the requests: until pools, the cache and the allocator's arenas are filled
MEBIBYTE = 2**20
GROWTH = 8 * MEBIBYTE
"""What the process may grow by after the warm-up, by the line that fits best. However long the soak is."""


@pytest.fixture
def own_server(tiny_model: Path, tmp_path: Path) -> Iterator[Server]:
    """With a cache so small that it is full when the warm-up ends."""
    words = ("--engine=torch-fp32", "--cache_entries=500")
    with running(tiny_model, tmp_path / "log", *words) as server:
        yield server


def resident_bytes(server: Server) -> int:
    """How much memory its process holds, as Linux counts it in pages."""
    statm = Path(f"/proc/{server.process.pid}/statm").read_text()
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_stays_flat_under_full_load_and_no_request_fails(own_server: Server) -> None:
    answered: list[int] = []
    resident: list[int] = []
    with full_load(own_server) as load:
        while not answered or answered[-1] < REQUESTS:
            time.sleep(0.05)
            answered.append(load.answered.total())
            resident.append(resident_bytes(own_server))
        patience.wait_until(lambda: min(load.answered.values()) > 0)
    warm = int(np.searchsorted(answered, WARM_UP * answered[-1]))
    per_request = float(np.polyfit(answered[warm:], resident[warm:], 1)[0])
    growth = per_request * (answered[-1] - answered[warm])
    print(
        f"\n{load.answered.total()} requests; resident {resident[warm] / MEBIBYTE:.1f} MiB after the warm-up, "
        f"{resident[-1] / MEBIBYTE:.1f} MiB at the end, growth {growth / MEBIBYTE:.2f} MiB"
    )
    assert load.failures == []
    assert growth < GROWTH
