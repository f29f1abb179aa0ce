"""Counts the challengers that a champion has met on a test, since one of many may win by chance.

Each challenger leaves a small file beside the champion, named by the challenger's digest: in
`<folder>.challenges/<champion>/<test>/` or, for a champion in an S3 store, under
`miniml/challenges/<champion>/<test>/` in its bucket. So a model that is evaluated twice counts once, and two
evaluations in parallel both count.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miniml.champion.record import Champion
from miniml.errors import StoreError
from miniml.store.address import S3Address, is_in_store, s3_address

STORED = "miniml/challenges"


@dataclass(frozen=True)
class ChallengerNumber:
    """The number of a challenger among all that one champion has met on one test."""

    number: int
    """The number, from 1; 0 if it is unknown."""
    uncounted: str = ""
    """Why the number is unknown; "" if it is known."""


def digest_of_test(texts: Iterable[str], labels: Iterable[Any]) -> str:
    """Returns the SHA-256 (hexadecimal) of a test, which does not depend on the order of its rows.

    Args:
        texts: The texts of the rows.
        labels: The labels of the rows, as names or numbers.
    """
    rows = sorted(json.dumps(row, ensure_ascii=False) for row in zip(texts, labels, strict=True))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def count_challenger(champion: Champion, test: str, challenger: str) -> ChallengerNumber:
    """Records that a model challenges the champion on a test, and returns its number.

    Args:
        champion: The champion.
        test: The digest of the test, from `digest_of_test`.
        challenger: The digest of the model.
    """
    try:
        if is_in_store(champion.source):
            address = s3_address("champion", champion.source)
            return ChallengerNumber(_in_store(address, f"{STORED}/{champion.digest}/{test}/", challenger))
        folder = Path(champion.source).resolve()
        return ChallengerNumber(
            _on_disk(folder.with_name(f"{folder.name}.challenges") / champion.digest / test, challenger)
        )
    except (OSError, StoreError) as error:
        return ChallengerNumber(0, str(error))


def _on_disk(folder: Path, challenger: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / challenger
    if not file.exists():
        earlier = [path.stat().st_mtime_ns for path in folder.iterdir()]
        file.touch()
        # The clock of files stands still for milliseconds, in which one run may write two of them.
        latest = max([file.stat().st_mtime_ns, *(each + 1 for each in earlier)])
        os.utime(file, ns=(latest, latest))
    since = file.stat().st_mtime_ns
    return sum(path.stat().st_mtime_ns <= since for path in folder.iterdir())


def _in_store(address: S3Address, prefix: str, challenger: str) -> int:
    from miniml.store import connection  # Only here: other sources need no S3 client.

    bucket = connection.Bucket(address.bucket, f"champion {str(address)!r}", connection.RETRY_TIMEOUTS)
    key = prefix + challenger
    bucket.write_once(key, b"{}\n")
    written = {item.key: item.modified for item in bucket.listing(prefix) if item.modified}
    # A store's times are in seconds: of several challengers within one, each counts all of them.
    return sum(when <= written[key] for when in written.values()) if key in written else len(written) + 1
