"""Which challengers a champion has met on a test: the more of them try, the likelier one of them is only lucky.

Each leaves a small file, named by its digest, beside the champion: in `<folder>.challenges/<champion>/<test>/`, or,
where the champion lies in an S3 store, under `miniml/challenges/<champion>/<test>/` in its bucket. A model that is
evaluated again is the same challenger, and what two evaluations at once write are two files: neither is lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miniml.champion.record import Champion
from miniml.errors import StoreError
from miniml.store.address import S3Address, is_in_store, s3_address

STORED = "miniml/challenges"


@dataclass(frozen=True)
class Turn:
    """The place of a challenger among all that one champion has met on one test."""

    number: int
    """From 1 on; 0 where nobody counts."""
    uncounted: str = ""
    """Why nobody counts."""


def digest_of_test(texts: Iterable[str], labels: Iterable[Any]) -> str:
    """SHA-256 (hexadecimal) of a test, whatever the order of its rows; `labels` are names, or numbers."""
    rows = sorted(json.dumps(row, ensure_ascii=False) for row in zip(texts, labels, strict=True))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def counted(champion: Champion, test: str, challenger: str) -> Turn:
    """Notes that the model with digest `challenger` challenges `champion` on a test, and says the how manieth it is."""
    try:
        if is_in_store(champion.source):
            address = s3_address("champion", champion.source)
            return Turn(_in_store(address, f"{STORED}/{champion.digest}/{test}/", challenger))
        folder = Path(champion.source).resolve()
        return Turn(
            _on_disk(folder.with_name(f"{folder.name}.challenges") / champion.digest / test, challenger)
        )
    except (OSError, StoreError) as error:
        return Turn(0, str(error))


def _on_disk(folder: Path, challenger: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / challenger
    if not own.exists():
        own.touch()
    since = own.stat().st_mtime_ns
    return sum(path.stat().st_mtime_ns <= since for path in folder.iterdir())


def _in_store(address: S3Address, prefix: str, challenger: str) -> int:
    from miniml.store import connection  # Only here: other sources need no S3 client.

    bucket = connection.Bucket(address.bucket, f"champion {str(address)!r}", connection.PATIENCE)
    own = prefix + challenger
    bucket.write_once(own, b"{}\n")
    written = {item.key: item.modified for item in bucket.listing(prefix) if item.modified}
    # Of those of the same second each counts all.
    return sum(when <= written[own] for when in written.values()) if own in written else len(written) + 1
