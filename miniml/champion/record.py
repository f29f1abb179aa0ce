"""Holds the record of the champion, the served model that a new one has to beat, as the stages pass it on.

The gate imports this module, so it needs neither the Kubernetes client, as `champion.find` does, nor torch, as
`evaluation.champion_comparison` does.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from miniml.escaping import clipped
from miniml.reports.markdown import heading, markdown_table, paragraph


@dataclass(frozen=True)
class Champion:
    """The model to beat, or the reason why there is none."""

    digest: str = ""
    """The digest of its model folder; "" if there is no champion."""
    source: str = ""
    """The address of its model folder: a path or an s3:// address."""
    data_fingerprint: str = ""
    """The fingerprint of the dataset that it was trained on; "" if unknown."""
    place: str = ""
    """The InferenceService (namespace/name) that was read; "" if none was."""
    absent: str = ""
    """The reason why there is no champion, as the beginning of a sentence; "" if there is one."""

    @property
    def exists(self) -> bool:
        """Whether there is a champion."""
        return bool(self.digest)

    @property
    def name(self) -> str:
        """The champion's description within a sentence."""
        where = f"served as {self.place}" if self.place else "given"
        return f"the champion {self.digest[:12]} ({where})"

    def markdown(self) -> str:
        """Returns a table of the champion's digest, address and dataset, or the reason why there is none."""
        if not self.exists:
            why = paragraph(f"{self.absent}: a new model is judged by the absolute rules.")
            return f"{heading('No champion')}\n{why}"
        rows = {
            "digest": self.digest,
            "model": clipped(self.source, 200),
            "served as": self.place or "not served: the model was given by its address",
            "trained on data": self.data_fingerprint or "unknown",
        }
        return f"{heading('The champion')}\n{markdown_table(('', ''), rows.items())}"

    def save(self, path: Path) -> None:
        """Writes the record as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Champion:
        """Reads a record that `save` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


NOBODY = Champion(absent="No champion was asked for")
"""The record of a run that looks for no champion."""
