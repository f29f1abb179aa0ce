"""Names a repository on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode


@dataclass(frozen=True)
class HubId:
    """A repository on the hub, with the configuration, split and revision to read."""

    name: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        options = {"config": self.config, "split": self.split, "revision": self.revision}
        query = urlencode({name: value for name, value in options.items() if value is not None})
        return f"{self.name}?{query}" if query else self.name
