"""Sealed folders (see `miniml.seals`), copied to a bucket as they come about, and brought back on another machine.

<prefix>/<name>/<path>          a file of the folder
<prefix>/<name>/sealed.json     its seal: sent last and removed first, so that what bears one is whole
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from miniml.folders import written_whole
from miniml.listed_files import is_inside
from miniml.seals import SEAL_NAME, read_seal
from miniml.sources import S3Address
from miniml.store.connection import Bucket, Patience
from miniml.store.parts import Part, bring

PATIENCE = Patience(first=30.0, later=30.0)
"""Shorter than elsewhere once the store has answered: whoever mirrors has other work to do, and tries again."""


class Mirror:
    """What lies below an address that names plain objects; `argument` is the setting that it came from.

    Every method raises StoreError where the store does not do its part.
    """

    def __init__(self, argument: str, address: S3Address, patience: Patience | None = None) -> None:
        self._bucket = Bucket(address.bucket, f"{argument} '{address}'", patience or PATIENCE)
        self._address, self._prefix = address, f"{address.path.strip('/')}/".lstrip("/")

    def __str__(self) -> str:
        return str(self._address)

    def names(self) -> list[str]:
        """The folders that lie there whole."""
        keys = (item.key.removeprefix(self._prefix) for item in self._bucket.listing(self._prefix))
        found = (key.removesuffix(f"/{SEAL_NAME}") for key in keys if key.endswith(f"/{SEAL_NAME}"))
        return [name for name in found if is_inside(name) and "/" not in name]

    def send(self, folder: Path) -> None:
        """Copies a sealed folder under its own name."""
        for path in (*read_seal((folder / SEAL_NAME).read_bytes()), SEAL_NAME):
            file = folder / path
            with file.open("rb") as content:
                self._bucket.upload(self._key(folder.name, path), content, file.stat().st_size)

    def bring(self, name: str, folder: Path) -> None:
        """Brings the folder of that name to `folder`: checked, whole or not at all.

        Raises:
            StorageError: there is no room.
        """
        key = self._key(name, SEAL_NAME)
        content = self._bucket.read(key)
        try:
            files = read_seal(content or b"")
        except ValueError as error:
            raise self._bucket.error(f"the object {key} is corrupted: {error}. Remove it.") from error
        parts = [
            Part(path, self._key(name, path), sealed.size, sealed.sha256) for path, sealed in files.items()
        ]
        staging = folder.with_name(f"{folder.name}.fetching")
        staging.mkdir(parents=True, exist_ok=True)
        whole = bring(self._bucket, parts, staging)
        (whole / SEAL_NAME).write_bytes(content or b"")
        with written_whole(folder) as partial:
            whole.rename(partial)
        staging.rmdir()

    def keep(self, names: Collection[str]) -> None:
        """Removes all but the folders of these names, half-sent ones too."""
        keys = [item.key for item in self._bucket.listing(self._prefix)]
        gone = [key for key in keys if key.removeprefix(self._prefix).partition("/")[0] not in names]
        for key in sorted(gone, key=lambda key: not key.endswith(f"/{SEAL_NAME}")):
            self._bucket.remove(key)

    def _key(self, name: str, path: str) -> str:
        return f"{self._prefix}{name}/{path}"
