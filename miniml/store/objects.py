"""Reads and writes plain objects in a bucket as a file or folder."""

from __future__ import annotations

from pathlib import Path

from miniml.errors import InputError
from miniml.files.listed_files import is_inside, regular_files, require_paths, require_size
from miniml.model.manifest import MANIFEST_NAME
from miniml.store.address import S3Address
from miniml.store.connection import Bucket, Stored
from miniml.store.parts import Part


def find(bucket: Bucket, address: S3Address) -> list[Part]:
    """Returns the object of that key, or else every object below it.

    Raises:
        StoreError: there is none (the message says what is beside it), or a key cannot be a file's path.
    """
    path = address.path.rstrip("/")
    if not path:
        raise bucket.error(
            "it names a bucket and nothing in it. Give s3://bucket/path, or s3://bucket/name@version."
        )
    # Only one level is listed: a bucket may hold millions of keys with this prefix.
    if files := [item for item in bucket.level(path) if item.key == address.path and item.key != f"{path}/"]:
        return _parts(bucket, {path.rpartition("/")[2]: files[0]})
    inside = [item for item in bucket.listing(f"{path}/") if not item.key.endswith("/")]
    if inside:
        return _parts(bucket, {item.key.removeprefix(f"{path}/"): item for item in inside})
    folder = path.rpartition("/")[0]
    there = bucket.level(f"{folder}/" if folder else "")
    names = [
        item.key for item in there if not item.key.startswith("miniml/") and is_inside(item.key.rstrip("/"))
    ]
    raise bucket.error(
        f"bucket {bucket.name!r} has no object or folder {path!r}; beside it there are: "
        f"{', '.join(names[:10]) or 'none'}. Check the spelling; an entry of the store reads name@version."
    )


def put(bucket: Bucket, folder: Path, address: S3Address) -> None:
    """Writes every file of the folder below the address, over objects of the same key; nothing is removed.

    A model's manifest comes last, so that a folder that was written in part is not taken for a whole one.

    Args:
        bucket: The bucket to write to.
        folder: The folder on this machine.
        address: The prefix of the objects' keys.

    Raises:
        InputError: the folder holds something that is no regular file.
        StoreError: the store refuses.
    """
    try:
        files = regular_files(folder)
    except ValueError as error:
        raise InputError(
            f"{folder} cannot be written to {address}: {error}. Put a file in its place."
        ) from error
    for path in sorted(files, key=lambda path: path == MANIFEST_NAME):
        with (folder / path).open("rb") as file:
            bucket.upload(f"{address.path.rstrip('/')}/{path}", file, (folder / path).stat().st_size)


def _parts(bucket: Bucket, found: dict[str, Stored]) -> list[Part]:
    """Turns objects, by their paths in the folder, into parts."""
    try:
        require_paths(found)
        return [Part(path, item.key, require_size(item.size), etag=item.etag) for path, item in found.items()]
    except ValueError as error:
        raise bucket.error(
            f"what lies there cannot be a folder of files: {error}. Rename the object."
        ) from error
