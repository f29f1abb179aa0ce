"""Takes datasets and models from the Hugging Face hub."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl

from miniml.errors import InputError
from miniml.sources.hub_id import HubId
from miniml.sources.source import Fetched, FetchedSplits, Mount, Pinned, Source
from miniml.store.address import DATA_FILE

HUB_CACHE = "/opt/huggingface"
"""The folder in a container where this machine's hub cache is mounted, so that a model is fetched only once."""

MODEL = "model_id"
"""The argument that names a model; every other one names a dataset."""

# The hub's libraries are imported in the methods: a stage with other sources needs none.


@dataclass(frozen=True)
class HubSource(Source):
    """A repository on the hub."""

    where: HubId

    form = "a hub id"
    keeps_folders = False

    @classmethod
    def parse(cls, argument: str, text: str) -> Self:
        """Parses owner/name?config=...&split=...&revision=..., without asking the hub.

        Raises:
            InputError: it is no hub id.
        """
        name, _, query = text.partition("?")
        if name.count("/") > 1 or DATA_FILE.search(name):
            raise InputError(
                f"{argument} {text!r}: no such file or folder (looked in {Path.cwd()}). "
                f"Check the path, or give a hub id like 'Yelp/yelp_review_full'."
            )
        options = dict(parse_qsl(query))
        unknown = options.keys() - {"config", "split", "revision"}
        # The hub's own rule for repository ids: letters, digits, '-', '_' and '.', at most one slash.
        if unknown or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
            raise InputError(
                f"{argument} {text!r} is neither an existing path nor a hub id. A hub id reads "
                f"owner/name?config=...&split=...&revision=..., all after the name being optional."
            )
        where = HubId(name, options.get("config"), options.get("split"), options.get("revision"))
        return cls(argument, text, where)

    def __str__(self) -> str:
        return str(self.where)

    def fetch(self) -> Fetched:
        """Fetches a model folder; for datasets, see `fetch_dataset`. Raises what `fetch_model` does."""
        return self.fetch_model()

    def fetch_dataset(self) -> FetchedSplits:
        """Reads the dataset's splits with the library `datasets`.

        Raises:
            InputError: the repository, configuration, split or revision does not exist.
            HubError: the hub refuses, fails, or cannot be reached.
        """
        from miniml.sources import hub

        # "train[:10%]" is a part of a split.
        are_whole = "[" not in (self.where.split or "")
        return FetchedSplits(hub.load_dataset(self.where), self.text, are_whole)

    def fetch_model(self, weights: bool = True) -> Fetched:
        """Fetches the configuration, the tokenizer and the weights.

        Raises:
            InputError: the repository or revision does not exist.
            HubError: the hub refuses, fails, or cannot be reached.
        """
        from miniml.sources import hub

        return Fetched(hub.fetch_model(self.where, weights), self.text)

    def fetch_file(self, name: str) -> Path:
        """Fetches one file of the model, without its weights. Raises what `fetch_model` does."""
        from miniml.sources import hub

        return hub.fetch_file(self.where, name) / name

    def pin(self) -> Pinned:
        """Asks the hub which commit the revision is.

        Raises:
            InputError: the repository or revision does not exist.
            HubError: the hub refuses, fails, or cannot be reached.
        """
        from miniml.sources import hub_access

        kind = "model" if self.argument == MODEL else "dataset"
        commit = hub_access.commit_of(self.argument, self.where, kind)
        if not commit:
            return Pinned.unknown()
        if hub_access.offline():
            # Offline, the libraries find cached files only by the revision's name that fetched them, not by the commit.
            return Pinned(state=f"{hub_access.endpoint()} {commit}")
        return Pinned(str(replace(self.where, revision=commit)), hub_access.endpoint())

    def mount(self) -> Mount | None:
        """Mounts this machine's cache of the hub, which is created if it does not exist."""
        from huggingface_hub.constants import HF_HOME

        cache = Path(HF_HOME).expanduser()
        cache.mkdir(parents=True, exist_ok=True)
        return Mount(cache.resolve(), HUB_CACHE, read_only=False, environment={"HF_HOME": HUB_CACHE})

    @property
    def hub_name(self) -> str:
        """The repository's name, "owner/name"."""
        return self.where.name
