"""Defines what a kind of source can do: give a dataset or a model, say what it is now, be reached from a pod.

A new kind is one class. For `gs://` it would read:

    @register_source
    class GcsSource(Source):
        scheme = "gs://"

        def fetch(self) -> Fetched:
            return Fetched(download(self.text, into=user_cache() / "gcs"), self.text)

`fetch` is all that a kind must have; every other method has a default that is right for a remote store of files.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:  # A stage that reads no dataset has not got the library.
    import datasets


@dataclass(frozen=True)
class Fetched:
    """What a source gave."""

    path: Path
    """A folder, or the file itself."""
    address: str
    """Names the same content again: the source as it was given, with the digest of the content where one is known."""


@dataclass(frozen=True)
class FetchedSplits:
    """A dataset that a library has read already."""

    splits: datasets.DatasetDict
    address: str
    """As in `Fetched`."""
    are_whole: bool
    """Whether the splits are all that their files hold."""


@dataclass(frozen=True)
class Pinned:
    """What a source is at this moment."""

    address: str = ""
    """Names this very content for ever; empty where no address can."""
    state: str = ""
    """Differs when the content does; empty where `address` alone tells that."""

    @classmethod
    def unknown(cls) -> Pinned:
        """Returns a state that no other source ever had, so that no cache answers for it."""
        return cls(state=f"unknown: {secrets.token_hex(8)}")


@dataclass(frozen=True)
class Mount:
    """A folder or file of this machine that a container needs to read the source."""

    path: Path
    target: str
    """Where it stands in the container."""
    read_only: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    """What the container needs to find it there."""


@dataclass(frozen=True)
class Source(ABC):
    """One dataset or model, named by an argument of a run."""

    argument: str = field(compare=False)
    """The argument that names it, `dataset_id` say, for messages."""
    text: str = field(compare=False)
    """The source as it was given."""

    scheme: ClassVar[str] = ""
    """Begins every source of this kind, "s3://" say."""
    form: ClassVar[str] = ""
    """How one is written, for messages; by default the scheme and "<path>"."""
    reachable_from_pods: ClassVar[bool] = True
    """Whether a pod on a cluster can fetch it."""
    keeps_folders: ClassVar[bool] = True
    """Whether a model folder comes from it as it was signed, so that it can be the champion."""

    @classmethod
    def parse(cls, argument: str, text: str) -> Self:
        """Reads `text`, which begins with `scheme`.

        Raises:
            InputError: it names nothing of this kind; the message gives the remedy.
        """
        return cls(argument, text)

    @classmethod
    def short_name(cls, text: str) -> str:
        """Returns the word that tells a source from others, for titles: by default the end of its path."""
        path = re.split("[?#]|@sha256:", text)[0]
        return path.rstrip("/").rpartition("/")[2] or text

    @abstractmethod
    def fetch(self) -> Fetched:
        """Brings the file or folder to this machine, or finds it in a cache.

        Raises:
            MinimlError: it cannot be had; the message names `argument`.
        """

    def fetch_dataset(self) -> Fetched | FetchedSplits:
        """Brings a dataset: files in a format that miniml reads, or splits. Raises what `fetch` does."""
        return self.fetch()

    def fetch_model(self, weights: bool = True) -> Fetched:
        """Brings a model folder; without `weights` they may be left out. Raises what `fetch` does."""
        return self.fetch()

    def fetch_file(self, name: str) -> Path:
        """Brings one file of a model folder, if possible without the others. Raises what `fetch` does."""
        return self.fetch_model(weights=False).path / name

    def pin(self) -> Pinned:
        """Looks up what the source is now, without fetching it. Raises what `fetch` does."""
        return Pinned.unknown()

    def mount(self) -> Mount | None:
        """Returns what a container on this machine needs of it; None where the network is enough."""
        return None

    @property
    def hub_name(self) -> str:
        """The repository on the Hugging Face hub, "owner/name"; empty where it comes from elsewhere."""
        return ""
