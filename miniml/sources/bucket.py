"""Takes datasets and models from an S3 store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from miniml.errors import InputError
from miniml.sources.source import Fetched, Pinned, Source
from miniml.store.address import S3_SCHEME, S3Address, s3_address

# The store's client is imported in the methods: a stage with other sources needs none.


@dataclass(frozen=True)
class S3Source(Source):
    """An entry of the store in a bucket, or plain objects."""

    where: S3Address

    scheme = S3_SCHEME
    form = f"{S3_SCHEME}<bucket>/<path>"

    @classmethod
    def parse(cls, argument: str, text: str) -> Self:
        """Reads the address (see `miniml.store.address`).

        Raises:
            InputError: it is no such address, or names a whole bucket.
        """
        address = s3_address(argument, text)
        if not address.path.strip("/"):
            bucket = f"{S3_SCHEME}{address.bucket}"
            raise InputError(
                f"{argument} {text!r} names a bucket, and nothing in it. Give {bucket}/<path>, or "
                f"{bucket}/<name>@<version>."
            )
        return cls(argument, text, address)

    def __str__(self) -> str:
        return str(self.where)

    def fetch(self) -> Fetched:
        """Fetches the content into the user's cache, and checks it.

        Raises:
            StoreError: the store did not give it, or not as it was published.
            StorageError: there is no room.
        """
        from miniml.store import repository

        fetched = repository.cached(self.argument, self.where)
        return Fetched(fetched.path, fetched.source)

    def fetch_file(self, name: str) -> Path:
        """Fetches one file of the folder, without the others. Raises what `fetch` does."""
        from miniml.store import repository

        return repository.cached_file(self.argument, self.where, name)

    def pin(self) -> Pinned:
        """Asks the store for the digest of an entry, or for a hash that changes when plain objects do.

        Raises:
            StoreError: the store does not have it, or does not answer.
        """
        from miniml.store import repository

        identity = repository.identify(self.argument, self.where)
        if self.where.version:
            return Pinned(str(replace(self.where, version=f"sha256:{identity}")))
        return Pinned(state=identity)
