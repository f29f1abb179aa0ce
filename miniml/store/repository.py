"""Datasets and models in any S3 store (SeaweedFS, MinIO, Amazon's): read by address, published by content.

    s3://bucket/reviews@v1            an entry: `latest`, or sha256: and some of a digest, in place of a version
    s3://bucket/path/train.csv        plain objects: a file, or a folder of them

Where the store is, and the credentials, are the environment's to say: see `connection` and `credentials`.
From the command line: python -m miniml.store --help.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from miniml.errors import InputError
from miniml.files.digests import digest_of, sha256
from miniml.files.folders import disk_errors_explained, held, user_cache, written_whole
from miniml.files.listed_files import regular_files
from miniml.model import manifest
from miniml.model.manifest import MANIFEST_NAME, Manifest
from miniml.progress import logger
from miniml.store import entries, objects
from miniml.store.address import S3Address
from miniml.store.connection import PATIENCE, Bucket, Patience
from miniml.store.entries import Version
from miniml.store.parts import Part, bring

__all__ = [
    "Fetched",
    "Patience",
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
class Fetched:
    """What an address brought."""

    path: Path
    """A folder; or a file, where the address is that of one object."""
    source: str
    """The address with the digest of the content behind it, which brings the same again, or an error."""


def publish(source: Path, address: S3Address, patience: Patience = PATIENCE) -> str:
    """Puts a file or folder into the store under the name and version of `address`; returns its digest.

    What the store has already is not sent again, and publishing the same again changes nothing. A new version
    becomes `latest`.

    Raises:
        InputError: there is nothing to publish, or the address names no version.
        ModelFolderError: it is a model folder and not the one that was signed.
        StoreError: the version is something else already, or the store does not take it.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder (looked in {Path.cwd()}). Check the path.")
    if not address.version or address.version.startswith("sha256:"):
        raise InputError(f"{address} names no version to publish. Write s3://bucket/name@version, @v1 say.")
    logger.info(f"publishing {source} as {address}")
    return entries.publish(Bucket(address.bucket, str(address), patience), source, address)


def put(folder: Path, address: S3Address, patience: Patience = PATIENCE) -> None:
    """Writes a folder's files as plain objects below `address`, for a place that somebody else has chosen.

    Raises:
        StoreError: the store does not take it.
    """
    logger.info(f"writing {folder.name} to {address}")
    objects.put(Bucket(address.bucket, str(address), patience), folder, address)


def fetch(address: S3Address, folder: Path, patience: Patience = PATIENCE) -> Fetched:
    """Brings what `address` names into the new folder `folder`, checked, whole or not at all.

    After an interruption the same call goes on where it stopped, within a file too.

    Raises:
        InputError: there is something at `folder` already.
        StoreError: the store did not give it, or not as it was published.
        StorageError: there is no room.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already. Give a new folder, or remove it.")
    bucket = Bucket(address.bucket, str(address), patience)
    found = _look_up(bucket, address)
    return _brought(bucket, found, folder.absolute(), reuse=False)


def cached(argument: str, address: S3Address, patience: Patience = PATIENCE) -> Fetched:
    """What `address` names, from a folder of our own: brought if it is not there, or not as it was.

    The folder is in `miniml.files.folders.user_cache`. `argument` is the name of the setting that the address came
    from, for the messages.

    Raises:
        StoreError: the store did not give it, or not as it was published.
        StorageError: there is no room.
    """
    bucket = Bucket(address.bucket, f"{argument} '{address}'", patience)
    logger.info(f"asking the store at {bucket.endpoint.url} for {address}")
    found = _look_up(bucket, address)
    folder = user_cache() / found.identity
    return _brought(bucket, found, folder, reuse=True)


def cached_file(argument: str, address: S3Address, name: str, patience: Patience = PATIENCE) -> Path:
    """One file of the folder that `address` names, as `cached` brings it; nothing else of the folder is fetched.

    What an address of plain objects says behind `#` is of the whole folder, and not looked at.

    Raises:
        StoreError: the folder has no such file, or the store did not give it.
        StorageError: there is no room.
    """
    if not address.version:
        alone = S3Address(address.bucket, f"{address.path.rstrip('/')}/{name}")
        return cached(argument, alone, patience).path
    bucket = Bucket(address.bucket, f"{argument} '{address}'", patience)
    logger.info(f"asking the store at {bucket.endpoint.url} for {name} of {address}")
    found = _look_up(bucket, address).alone(name)
    if not found.parts and not found.signed:
        raise bucket.error(f"the entry has no file {name}. Publish one that has, or name another.")
    return _brought(bucket, found, user_cache() / found.identity, reuse=True).path / name


def identify(argument: str, address: S3Address, patience: Patience = PATIENCE) -> str:
    """Changes when what `address` names does; nothing is fetched, so it is quick to say whether it is there at all.

    Raises:
        StoreError: the store does not have it, or does not answer.
    """
    return _look_up(Bucket(address.bucket, f"{argument} '{address}'", patience), address).identity


def versions(bucket: str, name: str = "", patience: Patience = PATIENCE) -> list[Version]:
    """What has been published in `bucket`, or of it under `name`, by name and version.

    Raises:
        StoreError: the store does not say.
    """
    return entries.versions(Bucket(bucket, f"s3://{bucket}", patience), name)


@dataclass(frozen=True)
class _Found:
    """What the store has at an address."""

    address: S3Address
    parts: list[Part]
    identity: str
    """A hash that is another one where the content is."""
    digest: str = ""
    """Of the content; "" where only the content itself can tell, as for plain objects."""
    signed: Manifest | None = None

    @property
    def _is_one_object(self) -> bool:
        return not self.digest and self.parts[0].key == self.address.path

    def within(self, folder: Path) -> Path:
        return folder / self.parts[0].path if self._is_one_object else folder

    def alone(self, name: str) -> _Found:
        """An entry's folder with that one file of it."""
        return replace(
            self,
            parts=[part for part in self.parts if part.path == name],
            signed=self.signed if name == MANIFEST_NAME else None,
            identity=digest_of({"of": self.identity, "alone": name}),
        )

    def source_if_in(self, folder: Path) -> str | None:
        """The pinned address, if `folder` holds exactly what was found."""
        expected = {part.path for part in self.parts} | ({MANIFEST_NAME} if self.signed else set())
        try:
            present = set(regular_files(folder))
        except (OSError, ValueError):  # It is not there, or somebody has put something else into it.
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
        """The pinned address of these files (SHA-256 by path)."""
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


def _brought(bucket: Bucket, found: _Found, folder: Path, *, reuse: bool) -> Fetched:
    """Fills `folder`, or, to `reuse` it, leaves it as it is where it holds all of it.

    What has come so far stands beside it, under a name of its own, so that an interrupted call can be taken up.
    """
    staging = folder.with_name(f".{folder.name}.{found.identity[:16]}.fetching")
    # The folder may be another process's work of this very moment: that is waited for.
    with disk_errors_explained(folder), held(staging):
        whole, source = None, found.source_if_in(folder) if reuse else None
        if source is None:
            whole = bring(bucket, found.parts, staging)
            source = found.source_of({part.path: sha256(whole / part.path) for part in found.parts})
        if found.address.sha256 and source != str(found.address):
            shutil.rmtree(staging)
            raise bucket.error(
                f"what lies there now is {source}. Leave out what follows '#', or put back what it was."
            )
        if whole is not None:
            if found.signed:
                manifest.write(whole, found.signed)
            with written_whole(folder) as partial:
                whole.rename(partial)
            size = sum(part.size for part in found.parts)
            logger.info(f"fetched {len(found.parts)} files, {size / 1e6:,.1f} MB: {source}")
        shutil.rmtree(staging)
    return Fetched(found.within(folder), source)
