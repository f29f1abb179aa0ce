"""What the sources of a run are when it begins, for all of its stages to read the same, and for caches to tell.

A name is no content: a branch on the hub, `@latest`, the objects below a path, and a file may each be something else
in the next run, and a cache goes by names. So the first stage of a run looks every source up, and what it finds goes
to the stages that read sources, as one of their arguments.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Pins:
    """What was found."""

    addresses: dict[str, str] = field(default_factory=dict)
    """What to read in place of a source: the same one at a commit or a digest, which never changes."""
    states: dict[str, str] = field(default_factory=dict)
    """Of a source that no address can pin, or not alone: what changes when it does."""
    environment: str = ""
    """Changes with miniml's code and its libraries (see `miniml.environment`)."""

    @classmethod
    def read(cls, text: str) -> Pins:
        """What `written` wrote; "" pins nothing."""
        return cls(**json.loads(text)) if text else cls()

    def written(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def of(self, source: str) -> str:
        """What to read where `source` is named."""
        return self.addresses.get(source, source)


UNPINNED = Pins()
"""Every source is read as it is named."""
