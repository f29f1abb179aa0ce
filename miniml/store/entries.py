"""Publishes and finds the entries of the store: folders by their digest, and names with versions that point to them.

    miniml/blobs/<SHA-256>                 a file's bytes, once, whatever folders it is in
    miniml/manifests/<digest>.json         a folder: every file's path, SHA-256 and size
    miniml/names/reviews@v1                {"digest": ...}; never changes once written
    miniml/names/reviews@latest            {"digest": ...}; the version that was published last

The digest is that of the manifest's canonical JSON. The manifest of a model folder is the signed one, so that its
digest is the one in `miniml.json`, which evaluation checks, and in the label of the InferenceService.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from miniml.errors import InputError, StoreError
from miniml.files.digests import digest_of, sha256
from miniml.files.listed_files import is_regular, regular_files, require_paths, require_sha256, require_size
from miniml.model import manifest
from miniml.model.manifest import MANIFEST_NAME, Manifest
from miniml.progress import Progress, logger
from miniml.store.address import S3Address, is_entry
from miniml.store.connection import Bucket
from miniml.store.parts import Part

BLOBS, MANIFESTS, NAMES = "miniml/blobs/", "miniml/manifests/", "miniml/names/"
LATEST = "latest"
FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """A folder in the store."""

    content: dict[str, Any]
    """The content under the digest: `files` (SHA-256 by path), and for a model the rest of its signed manifest."""
    sizes: dict[str, int]
    """The files' sizes in bytes, by path."""

    @property
    def digest(self) -> str:
        """The digest of the folder; for a model, that of its signed manifest."""
        return self.signed.digest if self.signed else digest_of(self.content)

    @property
    def parts(self) -> list[Part]:
        """Every file but `miniml.json`, which the manifest replaces."""
        files = self.content["files"]
        return [Part(path, BLOBS + sha256, self.sizes[path], sha256) for path, sha256 in files.items()]

    @property
    def signed(self) -> Manifest | None:
        """The content of `miniml.json`; None where the folder is no model's."""
        return Manifest.of(self.content) if "metrics" in self.content else None


@dataclass(frozen=True)
class Version:
    """A name and version, and the digest that it points to."""

    name: str
    version: str
    digest: str
    published: datetime | None
    """When; None where the store does not say."""


def folder_digest(files: dict[str, str]) -> str:
    """Returns the digest that a folder of these files (SHA-256 by path) has in the store; models have another."""
    return digest_of({"files": files, "format": FORMAT})


def describe(source: Path) -> tuple[Entry, dict[str, Path]]:
    """Describes a file or folder as an entry of the store.

    Returns:
        The entry, and the files on this machine by their paths in the entry.

    Raises:
        InputError: it is empty, or holds something that is no regular file.
        ModelFolderError: it is a model folder that was changed since it was signed.
    """
    if is_regular(source / MANIFEST_NAME):
        signed = manifest.verify(source)
        paths = {path: source / path for path in signed.files}
        return Entry(asdict(signed), {path: file.stat().st_size for path, file in paths.items()}), paths
    if source.is_file():
        paths = {source.name: source}
    elif source.exists() and not source.is_dir():
        raise InputError(f"{source} cannot be published: it is no regular file or folder. Give one.")
    else:
        try:
            paths = {path: source / path for path in regular_files(source)}
        except ValueError as error:
            raise InputError(
                f"{source} cannot be published: {error}. Put a file with a plain name in its place: cp -rL copies what "
                f"links lead to."
            ) from error
    if not paths:
        raise InputError(f"{source} holds no file to publish. Give a file, or a folder with files.")
    files = {path: sha256(file) for path, file in paths.items()}
    return Entry(
        {"files": files, "format": FORMAT}, {path: file.stat().st_size for path, file in paths.items()}
    ), paths


def publish(bucket: Bucket, source: Path, address: S3Address) -> str:
    """Publishes a file or folder, and returns its digest. Publishing the same again changes nothing.

    Files are written first, then the manifest, the version and `latest`, so that a pointer never leads to something
    incomplete.

    Args:
        bucket: The bucket to write to.
        source: The file or folder.
        address: The name and version to publish it under.

    Raises:
        InputError: `source` is empty, or holds something that is no regular file.
        ModelFolderError: it is a model folder that was changed since it was signed.
        StoreError: the version points elsewhere already, or the store refuses.
    """
    entry, paths = describe(source)
    pointer = NAMES + f"{address.path}@{address.version}"
    is_latest = address.version == LATEST
    published = _read_pointer(bucket, pointer)
    if published and not is_latest:
        _require_same(bucket, address, published, entry.digest)
    _upload(bucket, entry, paths)
    text = json.dumps({"digest": entry.digest}).encode()
    if published == entry.digest:
        logger.info(f"{address} is that already")
    elif is_latest:
        bucket.write(pointer, text)
    else:
        if not bucket.write_once(pointer, text):  # Another process was faster.
            _require_same(bucket, address, _read_pointer(bucket, pointer) or "", entry.digest)
        bucket.write(NAMES + f"{address.path}@{LATEST}", text)
    return entry.digest


def resolve(bucket: Bucket, address: S3Address) -> Entry:
    """Returns the entry that `address` points to.

    Raises:
        StoreError: there is none, or its digest is not the one in the address; the message says what there is.
    """
    if address.version.startswith("sha256:"):
        digest = _complete_digest(bucket, address, address.version.removeprefix("sha256:"))
    else:
        found = _read_pointer(bucket, NAMES + f"{address.path}@{address.version}")
        if found is None:
            raise bucket.error(_missing_entry(bucket, address))
        digest = found
    if address.sha256 not in ("", digest):
        raise bucket.error(
            f"{address.path}@{address.version} has digest {digest}, not the one behind '#'. "
            f"Take @sha256:{address.sha256} instead, or leave out what follows '#'."
        )
    return _entry(bucket, digest)


def versions(bucket: Bucket, name: str = "") -> list[Version]:
    """Returns every version of every name in the bucket, or of `name`. Corrupted ones are logged and left out.

    Raises:
        StoreError: the store does not answer, or refuses.
    """
    found = []
    for stored in bucket.listing(NAMES + (f"{name}@" if name else "")):
        called, _, version = stored.key.removeprefix(NAMES).rpartition("@")
        if not is_entry(called, version):  # It was not published by miniml.
            continue
        try:
            digest = _read_pointer(bucket, stored.key)
        except StoreError as error:  # The others can still be listed.
            logger.info(f"left out: {error}")
            continue
        if digest:
            found.append(Version(called, version, digest, stored.modified))
    return found


def _upload(bucket: Bucket, entry: Entry, paths: dict[str, Path]) -> None:
    """Sends the files that the store does not have, and the manifest."""
    key = f"{MANIFESTS}{entry.digest}.json"
    progress, done, sent, new = Progress("publishing", max(1, _megabytes(entry)), "MB"), 0, 0, 0
    for part in entry.parts:
        if bucket.size(part.key) != part.size:
            with paths[part.path].open("rb") as file:
                reader = _HashingReader(file)
                bucket.upload(part.key, reader, part.size)
            if reader.digest.hexdigest() != part.sha256:
                bucket.remove(part.key)
                raise bucket.error(f"{paths[part.path]} was changed while it was published. Publish it anew.")
            sent, new = sent + 1, new + part.size
        done += part.size
        progress.report(round(done / 1e6), part.path)
    bucket.write(key, json.dumps({**asdict(entry), "digest": entry.digest}, ensure_ascii=False).encode())
    others = "; the store had the others" if sent < len(entry.parts) else ""
    logger.info(f"sent {sent} of {len(entry.parts)} files, {new / 1e6:,.1f} MB{others}")


class _HashingReader:
    """Hashes a file while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        return block


def _megabytes(entry: Entry) -> int:
    return round(sum(entry.sizes.values()) / 1e6)


def _read_pointer(bucket: Bucket, pointer: str) -> str | None:
    content = bucket.read(pointer)
    if content is None:
        return None
    try:
        digest = json.loads(content)["digest"]
    except (ValueError, KeyError, TypeError, RecursionError):
        digest = None
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise bucket.error(
            f"the object {pointer} is corrupted: it names no digest. Remove it and publish again."
        )
    return digest


def _require_same(bucket: Bucket, address: S3Address, published: str, digest: str) -> None:
    if published != digest:
        raise bucket.error(
            f"version {address.version!r} of {address.path!r} is {published}, and a version never changes; "
            f"what was to be published is {digest}. Give it a version of its own."
        )


def _entry(bucket: Bucket, digest: str) -> Entry:
    """Reads a manifest, and checks that it has the digest in its name."""
    key = f"{MANIFESTS}{digest}.json"
    content = bucket.read(key)
    if content is None:
        raise bucket.error(
            f"there is no entry with digest {digest} (no object {key}). Publish it, or check it."
        )
    try:
        stored = json.loads(content)
        entry = Entry(stored["content"], stored["sizes"])
        found = entry.digest
        if found == digest:
            _require_valid(entry)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _corrupted(bucket, key, f"it cannot be read ({error})") from error
    if found != digest:
        raise _corrupted(bucket, key, f"expected digest {digest}, found {found}")
    return entry


def _require_valid(entry: Entry) -> None:
    """Checks a manifest that anybody may have written: its files must be inside the folder, with a hash and a size.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it fails the check.
    """
    files = entry.content["files"]
    if not files:
        raise ValueError("it lists no file")
    require_paths([*files, MANIFEST_NAME])
    if MANIFEST_NAME in files:
        raise ValueError(f"{MANIFEST_NAME} is listed, which stands for the list itself")
    if files.keys() != entry.sizes.keys():
        raise ValueError("it lists files without a size")
    for path, sha in files.items():
        require_sha256(sha)
        require_size(entry.sizes[path])


def _corrupted(bucket: Bucket, key: str, reason: str) -> StoreError:
    return bucket.error(f"the object {key} is corrupted: {reason}. Remove it and publish the folder again.")


def _complete_digest(bucket: Bucket, address: S3Address, beginning: str) -> str:
    if len(beginning) == 64:
        return beginning
    listed = bucket.listing(MANIFESTS + beginning)
    called = [item.key.removeprefix(MANIFESTS).removesuffix(".json") for item in listed]
    digests = [digest for digest in called if re.fullmatch(r"[0-9a-f]{64}", digest)]
    if len(digests) == 1:
        return digests[0]
    if digests:
        raise bucket.error(
            f"sha256:{beginning} begins {len(digests)} digests: {_some(digests)}. Give more of it."
        )
    raise bucket.error(f"no digest in the bucket begins with {beginning}. {_missing_entry(bucket, address)}")


def _missing_entry(bucket: Bucket, address: S3Address) -> str:
    missing = f"bucket {bucket.name!r} has no entry {address.path}@{address.version}"
    try:
        called = [item.key.removeprefix(NAMES) for item in bucket.listing(NAMES)]
        called = [entry for entry in called if is_entry(*entry.rpartition("@")[::2])]
    except StoreError:  # The credentials may allow reading but not listing.
        return f"{missing}. Check the spelling."
    of_that_name = [entry for entry in called if entry.rpartition("@")[0] == address.path]
    if of_that_name:
        return (
            f"{missing}; of {address.path!r} it has: {_some(of_that_name)}. Take one of them, or publish it."
        )
    return f"{missing}; it has: {_some(called) or 'none'}. Check the spelling, or publish it."


def _some(words: list[str]) -> str:
    more = f" and {len(words) - 10} more" if len(words) > 10 else ""
    return ", ".join(words[:10]) + more


def pinned(address: S3Address, digest: str) -> str:
    """Returns the address with the digest of the content behind it, as provenance records it."""
    return str(S3Address(address.bucket, address.path, address.version, digest))
