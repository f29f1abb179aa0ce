"""Puts the load of `make bench-serve` on a server that runs already: `python -m benchmarks.peer URL --body inputs`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.load import Load, LoadResult
from benchmarks.serving import CLIENTS, reviews

BODIES: dict[str, Callable[[str], Any]] = {
    "text": lambda text: {"text": text},
    "instances": lambda text: {"instances": [text]},
    "inputs": lambda text: {"inputs": text},
}
"""What is posted for a text, by the key that the server looks for."""


def measure(
    url: str, body: str, texts: Sequence[str], clients: Sequence[int], seconds: float
) -> Iterator[tuple[int, LoadResult]]:
    """Loads a server in a closed loop, with one number of clients after the other.

    Args:
        url: The address that answers one text.
        body: A key of `BODIES`.
        texts: The texts, which are sent in turn.
        clients: The numbers of clients.
        seconds: The length of each load.

    Yields:
        The number of clients, and what came of their load.
    """
    load = Load(url, BODIES[body], list(texts))
    for count in clients:
        yield count, asyncio.run(load.closed(count, seconds))


def main() -> int:
    """Measures, and prints a line for each load."""
    parser = argparse.ArgumentParser("python -m benchmarks.peer", description=__doc__)
    parser.add_argument("url", help="the address that answers one text")
    parser.add_argument("--body", choices=BODIES, default="text", help="the key that it looks for")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--texts", type=int, default=1_000, help="reviews to send")
    options = parser.parse_args()
    found = measure(options.url, options.body, reviews(options.texts), options.clients, options.seconds)
    for clients, result in found:
        print(
            f"{clients:3} clients {result.rate:7.1f}/s  p50 {result.percentile(50):7.1f} ms  "
            f"p99 {result.percentile(99):7.1f} ms  503: {result.refused}  failed: {result.failed}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
