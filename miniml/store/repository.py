"""Publishes and fetches datasets and models in any S3 store (SeaweedFS, MinIO, Amazon's).

    s3://bucket/reviews@v1            an entry; also @latest, or @sha256: and the beginning of a digest
    s3://bucket/path/train.csv        plain objects: a file, or a folder of them

The store's endpoint and the credentials come from the environment: see `connection` and `credentials`.
The command line is `python -m miniml.store --help`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from miniml.errors import InputError
from miniml.files.digests import digest_of, sha256
from miniml.files.folders import disk_errors_explained, locked, user_cache, written_whole
from miniml.files.listed_files import regular_files
from miniml.model import manifest
from miniml.model.manifest import MANIFEST_NAME, Manifest
from miniml.progress import logger
from miniml.store import entries, objects
from miniml.store.address import S3Address
from miniml.store.connection import RETRY_TIMEOUTS, Bucket, RetryTimeouts
from miniml.store.entries import Version
from miniml.store.parts import Part, download

__all__ = [
    "LocalCopy",
    "RetryTimeouts",
    "Version",
    "cached",
    "cached_file",
    "fetch",
    "identify",
    "publish",
    "put",
    "versions",
]


@dataclass(frozen=True)
class LocalCopy:
    """The content of an address, on this machine."""

    path: Path
    """A folder; or a file, where the address is that of one object."""
    source: str
    """The address with the digest of the content behind it, which gives the same content again, or an error."""


def publish(source: Path, address: S3Address, timeouts: RetryTimeouts = RETRY_TIMEOUTS) -> str:
    """Publishes a file or folder, and returns its digest.

    Files that the store has are not sent again, and publishing the same again changes nothing. A new version becomes
    `latest`.

    Args:
        source: The file or folder.
        address: The name and version to publish it under.
        timeouts: The time limits for retrying.

    Raises:
        InputError: there is nothing to publish, or the address names no version.
        ModelFolderError: it is a model folder that was changed since it was signed.
        StoreError: the version has another content already, or the store refuses.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder (looked in {Path.cwd()}). Check the path.")
    if not address.version or address.version.startswith("sha256:"):
        raise InputError(f"{address} names no version to publish. Write s3://bucket/name@version, @v1 say.")
    logger.info(f"publishing {source} as {address}")
    return entries.publish(Bucket(address.bucket, str(address), timeouts), source, address)


def put(folder: Path, address: S3Address, timeouts: RetryTimeouts = RETRY_TIMEOUTS) -> None:
    """Writes a folder's files as plain objects, without publishing them.

    Args:
        folder: The folder on this machine.
        address: The prefix of the objects' keys.
        timeouts: The time limits for retrying.

    Raises:
        InputError: the folder holds something that is no regular file.
        StoreError: the store refuses.
    """
    logger.info(f"writing {folder.name} to {address}")
    objects.put(Bucket(address.bucket, str(address), timeouts), folder, address)


def fetch(address: S3Address, folder: Path, timeouts: RetryTimeouts = RETRY_TIMEOUTS) -> LocalCopy:
    """Fetches the content of an address into a new folder, which appears only when it is complete and checked.

    After an interruption, the same call continues where it stopped, even within a file.

    Args:
        address: An entry, or plain objects.
        folder: The folder to write; it must be empty or missing.
        timeouts: The time limits for retrying.

    Raises:
        InputError: there is something at `folder` already.
        StoreError: the store did not give the content, or not as it was published.
        StorageError: there is no room.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already. Give a new folder, or remove it.")
    bucket = Bucket(address.bucket, str(address), timeouts)
    found = _look_up(bucket, address)
    return _fetch_into(bucket, found, folder.absolute(), reuse=False)


def cached(argument: str, address: S3Address, timeouts: RetryTimeouts = RETRY_TIMEOUTS) -> LocalCopy:
    """Returns the content of an address from the user's cache, fetched if it is missing there or was changed.

    Args:
        argument: The name of the setting that the address is from, for messages.
        address: An entry, or plain objects.
        timeouts: The time limits for retrying.

    Raises:
        StoreError: the store did not give the content, or not as it was published.
        StorageError: there is no room.
    """
    bucket = Bucket(address.bucket, f"{argument} '{address}'", timeouts)
    logger.info(f"asking the store at {bucket.endpoint.url} for {address}")
    found = _look_up(bucket, address)
    folder = user_cache() / found.identity
    return _fetch_into(bucket, found, folder, reuse=True)


def cached_file(
    argument: str, address: S3Address, name: str, timeouts: RetryTimeouts = RETRY_TIMEOUTS
) -> Path:
    """Returns one file of the folder at an address from the user's cache; no other file is fetched.

    The digest behind an address of plain objects is that of the whole folder, and so is not checked.

    Args:
        argument: The name of the setting that the address is from, for messages.
        address: A folder: an entry, or plain objects.
        name: The file's path in the folder.
        timeouts: The time limits for retrying.

    Raises:
        StoreError: the folder has no such file, or the store did not give it.
        StorageError: there is no room.
    """
    if not address.version:
        alone = S3Address(address.bucket, f"{address.path.rstrip('/')}/{name}")
        return cached(argument, alone, timeouts).path
    bucket = Bucket(address.bucket, f"{argument} '{address}'", timeouts)
    logger.info(f"asking the store at {bucket.endpoint.url} for {name} of {address}")
    found = _look_up(bucket, address).alone(name)
    if not found.parts and not found.signed:
        raise bucket.error(f"the entry has no file {name}. Publish one that has, or name another.")
    return _fetch_into(bucket, found, user_cache() / found.identity, reuse=True).path / name


def identify(argument: str, address: S3Address, timeouts: RetryTimeouts = RETRY_TIMEOUTS) -> str:
    """Returns a hash that changes with the content of an address. Nothing is fetched, so it is a quick check.

    Args:
        argument: The name of the setting that the address is from, for messages.
        address: An entry, or plain objects.
        timeouts: The time limits for retrying.

    Raises:
        StoreError: the store does not have it, or does not answer.
    """
    return _look_up(Bucket(address.bucket, f"{argument} '{address}'", timeouts), address).identity


def versions(bucket: str, name: str = "", timeouts: RetryTimeouts = RETRY_TIMEOUTS) -> list[Version]:
    """Returns the versions that were published in a bucket.

    Args:
        bucket: The bucket's name.
        name: Only versions of this name; "" for all.
        timeouts: The time limits for retrying.

    Raises:
        StoreError: the store does not answer, or refuses.
    """
    return entries.versions(Bucket(bucket, f"s3://{bucket}", timeouts), name)


@dataclass(frozen=True)
class _Found:
    """The content of an address, in the store."""

    address: S3Address
    parts: list[Part]
    identity: str
    """A hash that changes with the content."""
    digest: str = ""
    """The digest of the content; "" for plain objects, whose content must be fetched to compute it."""
    signed: Manifest | None = None

    @property
    def _is_one_object(self) -> bool:
        return not self.digest and self.parts[0].key == self.address.path

    def within(self, folder: Path) -> Path:
        return folder / self.parts[0].path if self._is_one_object else folder

    def alone(self, name: str) -> _Found:
        """Returns the entry with that file alone."""
        return replace(
            self,
            parts=[part for part in self.parts if part.path == name],
            signed=self.signed if name == MANIFEST_NAME else None,
            identity=digest_of({"of": self.identity, "alone": name}),
        )

    def source_if_in(self, folder: Path) -> str | None:
        """Returns the pinned address if `folder` holds exactly this content, and else None."""
        expected = {part.path for part in self.parts} | ({MANIFEST_NAME} if self.signed else set())
        try:
            present = set(regular_files(folder))
        except (OSError, ValueError):  # The folder is missing, or holds something other than files.
            return None
        if expected != present or any((folder / p.path).stat().st_size != p.size for p in self.parts):
            return None
        files = {part.path: sha256(folder / part.path) for part in self.parts}
        if any(part.sha256 not in ("", files[part.path]) for part in self.parts):
            return None
        if self.signed and (folder / MANIFEST_NAME).read_text(encoding="utf-8") != self.signed.text():
            return None
        return self.source_of(files)

    def source_of(self, files: dict[str, str]) -> str:
        """Returns the pinned address of these files (SHA-256 by path)."""
        digest = self.digest
        if not digest:
            digest = next(iter(files.values())) if self._is_one_object else entries.folder_digest(files)
        return entries.pinned(self.address, digest)


def _look_up(bucket: Bucket, address: S3Address) -> _Found:
    if address.version:
        entry = entries.resolve(bucket, address)
        return _Found(address, entry.parts, entry.digest, entry.digest, entry.signed)
    parts = objects.find(bucket, address)
    state = {"endpoint": bucket.endpoint.url, "parts": [[part.path, part.identity] for part in parts]}
    return _Found(address, parts, digest_of(state))


def _fetch_into(bucket: Bucket, found: _Found, folder: Path, *, reuse: bool) -> LocalCopy:
    """Fetches the content into `folder`; with `reuse`, only if the folder does not hold it already.

    Partial content is kept in a folder beside it, so that a later call can continue.
    """
    staging = folder.with_name(f".{folder.name}.{found.identity[:16]}.fetching")
    # Another process may be fetching the same: this one waits for it.
    with disk_errors_explained(folder), locked(staging):
        whole, source = None, found.source_if_in(folder) if reuse else None
        if source is None:
            whole = download(bucket, found.parts, staging)
            source = found.source_of({part.path: sha256(whole / part.path) for part in found.parts})
        if found.address.sha256 and source != str(found.address):
            shutil.rmtree(staging)
            raise bucket.error(
                f"what lies there now is {source}. Leave out what follows '#', or put back what it was."
            )
        if whole is not None:
            if found.signed:
                manifest.write(whole, found.signed)
            if reuse:  # What the cache had there was incomplete, or was changed.
                shutil.rmtree(folder, ignore_errors=True)
            with written_whole(folder) as partial:
                whole.rename(partial)
            size = sum(part.size for part in found.parts)
            logger.info(f"fetched {len(found.parts)} files, {size / 1e6:,.1f} MB: {source}")
        shutil.rmtree(staging)
    return LocalCopy(found.within(folder), source)
