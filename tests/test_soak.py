"""A soak: full load over every protocol for a while, with flat memory and no failed request.

`MINIML_SOAK_SECONDS=300 python -m pytest tests/test_soak.py -s` soaks for longer, and tells what it saw.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.load import full_load
from tests.predictor import Server, running

SECONDS = float(os.environ.get("MINIML_SOAK_SECONDS", "6"))
WARM_UP = 0.4  # of the time: until pools, the cache and the allocator's arenas are filled
SECONDS_BETWEEN_LOOKS = 0.1
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


@pytest.mark.timeout(SECONDS + 120)
def test_memory_stays_flat_under_full_load_and_no_request_fails(own_server: Server) -> None:
    at, resident = [], []
    with full_load(own_server) as load:
        end = time.monotonic() + SECONDS
        while (now := time.monotonic()) < end:
            at.append(now)
            resident.append(resident_bytes(own_server))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    warm = int(WARM_UP * len(at))
    per_second = float(np.polyfit(at[warm:], resident[warm:], 1)[0])
    growth = per_second * (at[-1] - at[warm])
    print(
        f"\n{load.answered.total()} requests in {SECONDS:g} s; resident {resident[warm] / MEBIBYTE:.1f} MiB after "
        f"the warm-up, {resident[-1] / MEBIBYTE:.1f} MiB at the end, growth {growth / MEBIBYTE:.2f} MiB"
    )
    assert load.failures == []
    assert min(load.answered.values()) > 0
    assert growth < GROWTH
