"""Shares metrics among the trials of a search: a small JSON file of each, in a folder or in the store of the models.

A trial writes its own file and reads the others'. None is needed once the search is over.
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
Result = TypeVar("Result")


class Scoreboard(Protocol):
    """The entries of a search's trials, by the trials' names."""

    def entries(self) -> dict[str, Entry] | None:
        """Returns all entries by the trials' names; None where they cannot be read."""

    def write(self, name: str, entry: Entry) -> None:
        """Writes a trial's entry in place of its earlier one."""


def scoreboard_of(search: str, checkpoints: str, model_uri: str) -> Scoreboard | None:
    """Returns the scoreboard of a search, at a place that all of its trials reach; None where there is no such place.

    It is where a training's checkpoints would be: in the store that `checkpoints` or the model's address names, or
    else in this user's cache. That there is none is logged.

    Args:
        search: The name of the search.
        checkpoints: The setting of that name.
        model_uri: The address that the model will have; "" for a local path.
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
    """Logs the first failure of the store, and then behaves as if the trial were alone."""

    def __init__(self, address: S3Address) -> None:
        from miniml.store.connection import Bucket  # Only here: a search on a laptop needs no S3 client.
        from miniml.store.mirror import RETRY_TIMEOUTS, sweep

        self._bucket = Bucket(address.bucket, f"search '{address}'", RETRY_TIMEOUTS)
        self._prefix, self._failed = f"{address.path}/", False
        root, _, search = address.path.rpartition("/")
        sweep(S3Address(address.bucket, root), spared=search, seconds=MAX_AGE)

    def entries(self) -> dict[str, Entry] | None:
        return self._try(self._read)

    def write(self, name: str, entry: Entry) -> None:
        content = json.dumps(entry).encode()
        self._try(lambda: self._bucket.write(f"{self._prefix}{name}.json", content))

    def _read(self) -> dict[str, Entry]:
        found = {}
        for item in self._bucket.listing(self._prefix):
            content = self._bucket.read(item.key)
            if content and item.key.endswith(".json"):
                found[item.key.removeprefix(self._prefix).removesuffix(".json")] = json.loads(content)
        return found

    def _try(self, operation: Callable[[], Result]) -> Result | None:
        if self._failed:
            return None
        try:
            return operation()
        except StoreError as error:
            self._failed = True
            logger.info(f"this trial does not see the others: {error}")
            return None
