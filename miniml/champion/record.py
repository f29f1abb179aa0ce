"""The champion: the model that serves now, and that a new one has to beat. A record of it, as the stages pass it on.

It stands apart from the code that looks for it (`champion_search`) and that asks it (`challenge`), so that the
gate needs neither the Kubernetes client nor torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from miniml.escaping import clipped
from miniml.reports.markdown import heading, paragraph, table


@dataclass(frozen=True)
class Champion:
    """What was found, or why there is none."""

    digest: str = ""
    """What its folder is signed with; "" where there is no champion."""
    source: str = ""
    """Where its folder is: a path, or s3://."""
    data_fingerprint: str = ""
    """Of the dataset that it was trained on."""
    place: str = ""
    """The InferenceService, namespace/name, that was looked at; "" where none was."""
    absent: str = ""
    """Why there is none, in words that a sentence can begin with."""

    @property
    def exists(self) -> bool:
        return bool(self.digest)

    @property
    def name(self) -> str:
        """In words, for a sentence."""
        where = f"served as {self.place}" if self.place else "given"
        return f"the champion {self.digest[:12]} ({where})"

    def markdown(self) -> str:
        if not self.exists:
            why = paragraph(f"{self.absent}: a new model is judged by the absolute rules.")
            return f"{heading('No champion')}\n{why}"
        rows = {
            "digest": self.digest,
            "model": clipped(self.source, 200),
            "served as": self.place or "nothing was looked at: the model was given",
            "trained on data": self.data_fingerprint or "unknown",
        }
        return f"{heading('The champion')}\n{table(('', ''), rows.items())}"

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Champion:
        return cls(**json.loads(path.read_text(encoding="utf-8")))


NOBODY = Champion(absent="No champion was asked for")
