"""Records which state of its sources a run uses, so that all stages read the same and caches notice a change.

A name does not fix a content: a branch on the hub, `@latest`, the objects below a path, and a file may differ in the
next run, while KFP's cache compares names. So the first stage of a run looks up every source, and passes what it finds
to the stages that read sources, as one of their arguments.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Pins:
    """The states of a run's sources when it began."""

    addresses: dict[str, str] = field(default_factory=dict)
    """By source, the address to read instead: the same source at a commit or a digest, which never changes."""
    states: dict[str, str] = field(default_factory=dict)
    """By source, a value that changes when the source does, if no address pins all of it."""
    environment: str = ""
    """A value that changes with miniml's code and its libraries (see `miniml.environment`)."""

    @classmethod
    def read(cls, text: str) -> Pins:
        """Parses the JSON that `written` returns; "" pins nothing.

        Raises:
            ValueError: `text` is not JSON.
            TypeError: it has other keys than `written` gives it.
        """
        return cls(**json.loads(text)) if text else cls()

    def written(self) -> str:
        """Returns the pins as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def of(self, source: str) -> str:
        """Returns the address to read for `source`: the pinned one, or `source` itself."""
        return self.addresses.get(source, source)


UNPINNED = Pins()
"""Pins nothing: every source is read by the name that was given."""
