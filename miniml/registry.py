"""Holds the items of one kind, miniml's own and those of other packages: tasks, sources, metrics, gate rules, engines.

Each registry loads Python's entry points when it is first read. So a package that is installed beside miniml, in a
stage's image or on a laptop, is found without an import. `miniml.extensions` says how a package adds to them.
"""

from __future__ import annotations

from collections.abc import ItemsView, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar, overload

Item = TypeVar("Item")
Default = TypeVar("Default")


class Registry(Generic[Item]):
    """Items of one kind by name, in the order in which they were added."""

    def __init__(self, group: str, items: Mapping[str, Item] | None = None) -> None:
        """
        Args:
            group: The group of entry points that add to it.
            items: The items that miniml itself has.
        """
        self._group = group
        self._items = dict(items or {})
        self._is_complete = False

    def add(self, name: str, item: Item) -> None:
        """Adds an item. An equal one may be added again, as by a module that is imported twice.

        Args:
            name: The item's name.
            item: The item.

        Raises:
            ValueError: another item has that name.
        """
        if self._items.setdefault(name, item) != item:
            raise ValueError(f"{self._group} has a {name!r} already. Give it another name.")

    def remove(self, name: str) -> None:
        """Removes an item, for tests that clean up after themselves.

        Raises:
            KeyError: none has that name.
        """
        del self._items[name]

    def items(self) -> ItemsView[str, Item]:
        """Returns the names with their items."""
        self._complete()
        return self._items.items()

    @overload
    def get(self, name: str) -> Item | None: ...
    @overload
    def get(self, name: str, default: Default) -> Item | Default: ...
    def get(self, name: str, default: Default | None = None) -> Item | Default | None:
        """Returns the item with that name, or the default."""
        self._complete()
        return self._items.get(name, default)

    def __getitem__(self, name: str) -> Item:
        """Returns the item with that name.

        Raises:
            KeyError: none has that name.
        """
        self._complete()
        return self._items[name]

    def _complete(self) -> None:
        if not self._is_complete:
            self._is_complete = True  # Set first, because what is loaded may read the registry.
            for entry in entry_points(group=self._group):
                entry.load()
