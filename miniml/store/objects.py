"""Plain objects as a file or folder: what lies in a bucket without having been published."""

from __future__ import annotations

from pathlib import Path

from miniml.errors import InputError
from miniml.files.listed_files import is_inside, regular_files, require_paths, require_size
from miniml.model.manifest import MANIFEST_NAME
from miniml.store.address import S3Address
from miniml.store.connection import Bucket, Stored
from miniml.store.parts import Part


def find(bucket: Bucket, address: S3Address) -> list[Part]:
    """The object of that key, or else every object below it.

    Raises:
        StoreError: there is nothing there; the message tells what lies beside it.
    """
    path = address.path.rstrip("/")
    if not path:
        raise bucket.error(
            "it names a bucket and nothing in it. Give s3://bucket/path, or s3://bucket/name@version."
        )
    # One level only, and its beginning: a bucket may hold millions of keys that begin alike.
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
    """Writes every file of the folder below the address; over what is there already, and nothing is removed.

    A model's manifest comes last, so that a folder of which only a part has come is not taken for a whole one.

    Raises:
        InputError: there is something in the folder that is no regular file.
        StoreError: the store does not take it.
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
    """Of objects, by their paths in the folder that they make."""
    try:
        require_paths(found)
        return [Part(path, item.key, require_size(item.size), etag=item.etag) for path, item in found.items()]
    except ValueError as error:
        raise bucket.error(
            f"what lies there cannot be a folder of files: {error}. Rename the object."
        ) from error
