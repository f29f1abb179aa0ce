"""`python -m benchmarks.start`: the seconds from a server's start until its model is ready, first and later starts."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.machine import kind
from benchmarks.serving import running, servers
from miniml.processor import usable_processors

# What a start reads most of.
LARGE = ("torch", "transformers", "openvino", "kserve", "tokenizers", "numpy")


def main() -> int:
    """Measures, and prints the seconds of each start and their medians."""
    parser = argparse.ArgumentParser("python -m benchmarks.start", description=__doc__)
    parser.add_argument("--model-dir", type=Path, default=Path("local_outputs/latest/model"))
    parser.add_argument("--starts", type=int, default=5, help="of each kind")
    parser.add_argument(
        "--cold", action="store_true", help="have first starts read their files from the disk (Linux)"
    )
    options = parser.parse_args()
    threads = usable_processors(torch.get_num_threads())
    print(f"{kind()}, {threads} thread(s)", flush=True)
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        _report("first", options.starts, lambda number: _first(options, Path(scratch), threads, number))
        with _cache(Path(scratch) / "later"):
            seconds_until_kept = _start(options.model_dir, threads, lasts=_has_record)
            print(f"measured beforehand ({seconds_until_kept:.2f} s to ready)", flush=True)
            _report("later", options.starts, lambda number: _start(options.model_dir, threads))
    return 0


def _first(options: argparse.Namespace, scratch: Path, threads: int, number: int) -> float:
    if options.cold:
        _forget_files(options.model_dir)
    with _cache(scratch / f"first-{number}"):
        return _start(options.model_dir, threads)


def _start(model_dir: Path, threads: int, lasts: Callable[[], bool] = lambda: True) -> float:
    """Starts a server, waits until `lasts` and ends it; the seconds until it was ready."""
    (server,) = (server for server in servers(()) if server.key == "d")
    with running(server, model_dir, threads) as (_, seconds):
        while not lasts():
            time.sleep(0.1)
    return seconds


def _has_record() -> bool:
    return any(Path(os.environ["MINIML_CACHE"]).glob("engines/*.json"))


@contextmanager
def _cache(folder: Path) -> Iterator[None]:
    """Has servers keep their measurements in `folder`."""
    before = os.environ.get("MINIML_CACHE")
    os.environ["MINIML_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINIML_CACHE"]
        else:
            os.environ["MINIML_CACHE"] = before


def _forget_files(model_dir: Path) -> None:
    """Has the system drop the model's and the libraries' files from its cache, unless a process uses them."""
    for folder in (model_dir, *map(_folder_of, LARGE)):
        for path in folder.rglob("*"):
            if path.is_file():
                _forget(path)


def _folder_of(library: str) -> Path:
    spec = find_spec(library)
    assert spec and spec.origin, f"{library} is installed"
    return Path(spec.origin).parent


def _forget(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _report(name: str, starts: int, start: Callable[[int], float]) -> None:
    seconds = [start(number) for number in range(starts)]
    every = " ".join(f"{each:.2f}" for each in seconds)
    print(f"{name} starts: median {statistics.median(seconds):.2f} s of {every}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
