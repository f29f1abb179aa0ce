"""Reads and writes the addresses of an S3 store.

s3://bucket/reviews@latest   an entry of the store in a bucket (see miniml/store/repository.py)
s3://bucket/path/train.csv   plain objects in a bucket: a file or a folder

An address may end in #sha256=<digest>, as the recorded source of a dataset does: then it brings that content, or
an error. A key that itself holds one of @ # ? is written with %40, %23 or %3F in its place, and % before such digits
with %25; an @ in the name of a data file needs nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from miniml.errors import InputError

S3_SCHEME = "s3://"
LONGEST_ENTRY = 500
"""Characters of a name and its version; S3 takes 1,024 bytes in a key."""
DATA_FILE = re.compile(r"\.(csv|tsv|jsonl?|parquet|zip|gz)$", re.IGNORECASE)
"""Matches the end of a data file's name."""

# What has a meaning in an S3 address, in the path of which it is written by its number: no other character is.
_MEANINGFUL = re.compile(r"[@#?]|%(?=40|23|3F|25)", re.IGNORECASE)
_NUMBERED = re.compile(r"%(40|23|3F|25)", re.IGNORECASE)


@dataclass(frozen=True)
class S3Address:
    """An entry of the store in a bucket, where `version` is set, and otherwise plain objects."""

    bucket: str
    path: str
    """The entry's name; or the object's key, or a folder of keys."""
    version: str = ""
    """A version's name, `latest`, or `sha256:` and the digest or the beginning of it."""
    sha256: str = ""
    """What the content must have, where the address says so."""

    def __str__(self) -> str:
        path = _MEANINGFUL.sub(lambda found: f"%{ord(found[0]):02X}", self.path)
        version = f"@{self.version}" if self.version else ""
        pinned = f"#sha256={self.sha256}" if self.sha256 else ""
        return f"{S3_SCHEME}{self.bucket}/{path}{version}{pinned}"


def is_in_store(text: str) -> bool:
    """Tells whether `text` names a place in an S3 store, rather than a folder."""
    return text.startswith(S3_SCHEME)


def s3_address(argument: str, source: str) -> S3Address:
    """Reads s3://bucket/path, s3://bucket/name@version, and either with #sha256=<digest> behind it.

    Raises:
        InputError: it is neither; what might be a secret in it is not repeated.
    """
    rest, hashed, digest = source.removeprefix(S3_SCHEME).partition("#sha256=")
    bucket, _, path = rest.partition("/")
    if "@" in bucket or ":" in bucket or "?" in rest:
        raise InputError(
            f"{argument}: an address that begins with {S3_SCHEME} holds '@' or ':' in its bucket's place, or a '?', as "
            f"addresses with credentials do; it is not repeated here. Leave them out: credentials come from the "
            f"environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or ~/.aws/credentials. "
            f"Write {S3_SCHEME}bucket/path or {S3_SCHEME}bucket/name@version; a '?' in a key is written %3F."
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise InputError(
            f"{argument} {source!r}: {bucket!r} cannot name a bucket. Use 3 to 63 lower-case letters, digits, dots "
            f"and hyphens."
        )
    if hashed and not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise InputError(f"{argument} {source!r}: what follows '#sha256=' is 64 hexadecimal digits.")
    name, at, version = path.rpartition("@")
    if not at or DATA_FILE.search(path):
        key = _NUMBERED.sub(lambda found: chr(int(found[1], 16)), path)
        return S3Address(bucket, key, sha256=digest)
    if not is_entry(name, version):
        raise InputError(
            f"{argument} {source!r}: an entry reads {S3_SCHEME}bucket/name@version, both of letters, digits, '.', '_' "
            f"and '-' (a name also of '/'), {LONGEST_ENTRY} characters at most, the "
            f"version also being latest, or sha256: and 6 or more digits. "
            f"An '@' in the key of an object is written %40."
        )
    return S3Address(bucket, name, version, digest)


def is_entry(name: str, version: str) -> bool:
    """Whether something may be published under that name and version."""
    if {".", ".."} & {*name.split("/"), version} or len(f"{name}@{version}") > LONGEST_ENTRY:
        return False
    return bool(
        re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) and re.fullmatch(r"sha256:[0-9a-f]{6,64}|[\w.-]+", version)
    )
