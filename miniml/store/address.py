"""Reads and writes the addresses of an S3 store.

s3://bucket/reviews@latest   an entry of the store in a bucket (see miniml/store/repository.py)
s3://bucket/path/train.csv   plain objects in a bucket: a file or a folder

An address may end in #sha256=<digest>, as the recorded source of a dataset does: then it gives that content, or an
error. In the key of an object, the characters @ # ? are written as %40, %23 and %3F, and a % before such digits as
%25; an @ in the name of a data file may stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from miniml.errors import InputError

S3_SCHEME = "s3://"
LONGEST_ENTRY = 500
"""The most characters of a name and its version; S3 allows 1,024 bytes in a key."""
DATA_FILE = re.compile(r"\.(csv|tsv|jsonl?|parquet|zip|gz)$", re.IGNORECASE)
"""Matches the end of a data file's name."""

# Characters with a meaning in an address, which are percent-encoded in its path; no others are.
_RESERVED = re.compile(r"[@#?]|%(?=40|23|3F|25)", re.IGNORECASE)
_ENCODED = re.compile(r"%(40|23|3F|25)", re.IGNORECASE)


@dataclass(frozen=True)
class S3Address:
    """An entry of the store in a bucket, where `version` is set, and otherwise plain objects."""

    bucket: str
    path: str
    """The name of the entry, the key of the object, or a prefix of keys."""
    version: str = ""
    """The name of a version, `latest`, or `sha256:` and a digest or its beginning."""
    sha256: str = ""
    """The digest that the content must have; "" where the address has none."""

    def __str__(self) -> str:
        path = _RESERVED.sub(lambda found: f"%{ord(found[0]):02X}", self.path)
        version = f"@{self.version}" if self.version else ""
        pinned = f"#sha256={self.sha256}" if self.sha256 else ""
        return f"{S3_SCHEME}{self.bucket}/{path}{version}{pinned}"


def is_in_store(text: str) -> bool:
    """Returns whether `text` is an address in an S3 store, not a path."""
    return text.startswith(S3_SCHEME)


def s3_address(argument: str, source: str) -> S3Address:
    """Parses s3://bucket/path or s3://bucket/name@version, either with #sha256=<digest> behind it.

    Args:
        argument: The name of the setting that the address is from, for messages.
        source: The address.

    Raises:
        InputError: it is no such address; the message does not repeat what might be a secret.
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
        key = _ENCODED.sub(lambda found: chr(int(found[1], 16)), path)
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
    """Returns whether the store allows that name and version."""
    if {".", ".."} & {*name.split("/"), version} or len(f"{name}@{version}") > LONGEST_ENTRY:
        return False
    return bool(
        re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) and re.fullmatch(r"sha256:[0-9a-f]{6,64}|[\w.-]+", version)
    )
