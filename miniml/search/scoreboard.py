"""Where the trials of a search see each other: a small JSON file of each, in a folder or in the store of the models.

A trial writes its own and reads the others'. Nothing of it is needed once the search is over.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from miniml.errors import StoreError
from miniml.files.folders import disk_errors_explained, user_cache
from miniml.progress import logger
from miniml.store.address import S3Address, is_in_store, s3_address
from miniml.training.checkpoints import MAX_AGE, beside

Entry = dict[str, Any]
Thing = TypeVar("Thing")


class Scoreboard(Protocol):
    """The entries of a search's trials, by the trials' names."""

    def entries(self) -> dict[str, Entry] | None:
        """All that there are; None where they cannot be read."""

    def write(self, name: str, entry: Entry) -> None:
        """In place of the one that this trial has written before."""


def scoreboard_of(search: str, checkpoints: str, model_uri: str) -> Scoreboard | None:
    """That of the search with this name, where all of its trials find it; None, and a word on it, where none can be.

    It lies where a training's checkpoints would: in a store where `checkpoints` or the model's own address names one,
    and else in this user's cache.
    """
    address = checkpoints if is_in_store(checkpoints) else beside(model_uri)
    if address:
        root = s3_address("checkpoints", address)
        return _InStore(S3Address(root.bucket, f"{root.path.strip('/')}/searches/{search}".lstrip("/")))
    if "://" in model_uri:
        logger.info(f"trials do not see each other: the store of {model_uri} is not known here")
        return None
    return _InFolder(user_cache() / "searches" / search)


class _InFolder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for other in folder.parent.glob("*/"):
            with suppress(OSError):  # Another trial removes it too.
                if time.time() - other.stat().st_mtime > MAX_AGE:
                    shutil.rmtree(other)

    def entries(self) -> dict[str, Entry]:
        return {path.stem: json.loads(path.read_bytes()) for path in self._folder.glob("*.json")}

    def write(self, name: str, entry: Entry) -> None:
        with disk_errors_explained(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = self._folder / f"{name}.partial"
            partial.write_text(json.dumps(entry), encoding="utf-8")
            partial.rename(self._folder / f"{name}.json")


class _InStore:
    """A store that fails is told once, and then this trial trains as if it were alone."""

    def __init__(self, address: S3Address) -> None:
        from miniml.store.connection import Bucket  # Only here: a search on a laptop needs no S3 client.
        from miniml.store.mirror import PATIENCE, sweep

        self._bucket = Bucket(address.bucket, f"search '{address}'", PATIENCE)
        self._prefix, self._lost = f"{address.path}/", False
        root, _, search = address.path.rpartition("/")
        sweep(S3Address(address.bucket, root), spared=search, seconds=MAX_AGE)

    def entries(self) -> dict[str, Entry] | None:
        return self._tried(self._read)

    def write(self, name: str, entry: Entry) -> None:
        content = json.dumps(entry).encode()
        self._tried(lambda: self._bucket.write(f"{self._prefix}{name}.json", content))

    def _read(self) -> dict[str, Entry]:
        found = {}
        for item in self._bucket.listing(self._prefix):
            content = self._bucket.read(item.key)
            if content and item.key.endswith(".json"):
                found[item.key.removeprefix(self._prefix).removesuffix(".json")] = json.loads(content)
        return found

    def _tried(self, act: Callable[[], Thing]) -> Thing | None:
        if self._lost:
            return None
        try:
            return act()
        except StoreError as error:
            self._lost = True
            logger.info(f"this trial does not see the others: {error}")
            return None
