"""Plain objects as a file or folder: what lies in a bucket without having been published."""

from __future__ import annotations

from pathlib import Path

from miniml.manifest import MANIFEST_NAME
from miniml.sources import S3Address
from miniml.store.connection import Bucket, Stored
from miniml.store.parts import Part, is_inside


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
    # One level only: a bucket may hold millions of keys that begin alike.
    beside = bucket.listing(path, recursive=False)
    files = [item for item in beside if item.key == address.path and not item.key.endswith("/")]
    if files:
        return [_part(bucket, files[0], path.rpartition("/")[2])]
    inside = []
    if any(item.key == f"{path}/" for item in beside):
        inside = [item for item in bucket.listing(f"{path}/") if not item.key.endswith("/")]
    if inside:
        return [_part(bucket, item, item.key.removeprefix(f"{path}/")) for item in inside]
    folder = path.rpartition("/")[0]
    there = bucket.listing(f"{folder}/" if folder else "", recursive=False)
    names = [item.key for item in there if not item.key.startswith("miniml/")]
    raise bucket.error(
        f"bucket {bucket.name!r} has no object or folder {path!r}; beside it there are: "
        f"{', '.join(names[:10]) or 'none'}. Check the spelling; an entry of the store reads name@version."
    )


def put(bucket: Bucket, folder: Path, address: S3Address) -> None:
    """Writes every file of the folder below the address; over what is there already, and nothing is removed.

    A model's manifest comes last, so that a folder of which only a part has come is not taken for a whole one.

    Raises:
        StoreError: the store does not take it.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in sorted(files, key=lambda path: path.name == MANIFEST_NAME):
        with path.open("rb") as file:
            key = f"{address.path.rstrip('/')}/{path.relative_to(folder).as_posix()}"
            bucket.upload(key, file, path.stat().st_size)


def _part(bucket: Bucket, stored: Stored, path: str) -> Part:
    if not is_inside(path):
        raise bucket.error(f"the key {stored.key!r} cannot be a file's path. Rename the object.")
    return Part(path, stored.key, stored.size, etag=stored.etag)
