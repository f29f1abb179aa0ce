"""Defines a kind of source: how a dataset or a model is fetched, pinned to its content and reached from a pod.

A new kind is one class. For `gs://` it would read:

    @register_source
    class GcsSource(Source):
        scheme = "gs://"

        def fetch(self) -> Fetched:
            return Fetched(download(self.text, into=user_cache() / "gcs"), self.text)

Only `fetch` is required; every other method has a default that is right for a remote store of files.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:  # A stage that reads no dataset does not have the library.
    import datasets


@dataclass(frozen=True)
class Fetched:
    """The fetched content of a source."""

    path: Path
    """A folder, or the file itself."""
    address: str
    """The source as it was given, with the digest of its content where that is known."""


@dataclass(frozen=True)
class FetchedSplits:
    """A dataset that a library has already loaded."""

    splits: datasets.DatasetDict
    address: str
    """As in `Fetched`."""
    are_whole: bool
    """Whether the splits hold all rows of their files."""


@dataclass(frozen=True)
class Pinned:
    """The present content of a source."""

    address: str = ""
    """An address that always names this very content; empty where there is none."""
    state: str = ""
    """A text that changes with the content; empty where `address` alone does."""

    @classmethod
    def unknown(cls) -> Pinned:
        """Returns a state that no source has had before, so that no cached result is used for it."""
        return cls(state=f"unknown: {secrets.token_hex(8)}")


@dataclass(frozen=True)
class Mount:
    """A folder or file of this machine that a container needs to read the source."""

    path: Path
    target: str
    """The path in the container."""
    read_only: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    """The environment variables with which the container finds it."""


@dataclass(frozen=True)
class Source(ABC):
    """One dataset or model, named by an argument of a run."""

    argument: str = field(compare=False)
    """The argument that names it, such as `dataset_id`, for messages."""
    text: str = field(compare=False)
    """The source as it was given."""

    scheme: ClassVar[str] = ""
    """The beginning of every source of this kind, such as "s3://"."""
    form: ClassVar[str] = ""
    """The form of such a source, for messages; by default the scheme and "<path>"."""
    reachable_from_pods: ClassVar[bool] = True
    """Whether a pod on a cluster can fetch it."""
    keeps_folders: ClassVar[bool] = True
    """Whether it keeps model folders as they were signed, so that they can be the champion."""

    @classmethod
    def parse(cls, argument: str, text: str) -> Self:
        """Parses `text`, which begins with `scheme`.

        Raises:
            InputError: it names nothing of this kind; the message gives the remedy.
        """
        return cls(argument, text)

    @classmethod
    def short_name(cls, text: str) -> str:
        """Returns a short name of a source, for titles: by default the last part of its path."""
        path = re.split("[?#]|@sha256:", text)[0]
        return path.rstrip("/").rpartition("/")[2] or text

    @abstractmethod
    def fetch(self) -> Fetched:
        """Fetches the file or folder to this machine, or finds it in a cache.

        Raises:
            MinimlError: it cannot be fetched; the message names `argument`.
        """

    def fetch_dataset(self) -> Fetched | FetchedSplits:
        """Fetches a dataset: files in a format that miniml reads, or splits. Raises what `fetch` does."""
        return self.fetch()

    def fetch_model(self, weights: bool = True) -> Fetched:
        """Fetches a model folder; without `weights` they may be missing. Raises what `fetch` does."""
        return self.fetch()

    def fetch_file(self, name: str) -> Path:
        """Fetches one file of a model folder, if possible without the others. Raises what `fetch` does."""
        return self.fetch_model(weights=False).path / name

    def pin(self) -> Pinned:
        """Pins the present content of the source, without fetching it. Raises what `fetch` does."""
        return Pinned.unknown()

    def mount(self) -> Mount | None:
        """Returns the files that a container on this machine needs for it; None where the network is enough."""
        return None

    @property
    def hub_name(self) -> str:
        """The repository on the Hugging Face hub, "owner/name"; empty for other sources."""
        return ""
