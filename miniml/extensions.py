"""Keeps what other packages add to miniml: sources, metrics, gate rules, engines.

Each registry fills itself from Python's entry points when it is first read. So a package that is installed beside
miniml, in a stage's image or on a laptop, is found without being imported by anybody. In the package's pyproject.toml:

    [project.entry-points."miniml.metrics"]
    kappa = "their_package.kappa"

where importing `their_package.kappa` calls `register_metric`. The image of a stage gets the package by one line of a
Dockerfile on top of ours: `RUN pip install their-package`.
"""

from __future__ import annotations

from collections.abc import ItemsView, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar, overload

Item = TypeVar("Item")
Default = TypeVar("Default")


class Registry(Generic[Item]):
    """Things of one kind by their name, in the order in which they were added."""

    def __init__(self, group: str, items: Mapping[str, Item] | None = None) -> None:
        """
        Args:
            group: The group of entry points that add to it.
            items: Those that miniml brings itself.
        """
        self._group = group
        self._items = dict(items or {})
        self._is_complete = False

    def add(self, name: str, item: Item) -> None:
        """Adds `item`. The same one may be added again, as a module does that is imported twice.

        Raises:
            ValueError: something else has that name.
        """
        if self._items.setdefault(name, item) != item:
            raise ValueError(f"{self._group} has a {name!r} already. Give it another name.")

    def remove(self, name: str) -> None:
        """Takes out what was added, for a test that leaves things as they were."""
        del self._items[name]

    def items(self) -> ItemsView[str, Item]:
        """Returns all of them with their names."""
        self._complete()
        return self._items.items()

    @overload
    def get(self, name: str) -> Item | None: ...
    @overload
    def get(self, name: str, default: Default) -> Item | Default: ...
    def get(self, name: str, default: Default | None = None) -> Item | Default | None:
        """Returns the one with that name, or else the default."""
        self._complete()
        return self._items.get(name, default)

    def __getitem__(self, name: str) -> Item:
        """Returns the one with that name.

        Raises:
            KeyError: there is none.
        """
        self._complete()
        return self._items[name]

    def _complete(self) -> None:
        if not self._is_complete:
            self._is_complete = True  # First: what is loaded may read the registry.
            for entry in entry_points(group=self._group):
                entry.load()
