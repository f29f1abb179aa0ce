"""The model's export, the same bytes for the same weights: the digest that signs it covers the file that is served."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from miniml.model import engines

_NET = re.compile(r'(<net name=")[^"]*"')
_LAYER = re.compile(r'(<layer id="(\d+)" name=")[^"]*(" type="(?!Parameter)(\w+)")')


def export(model: Any, model_dir: Path) -> None:
    """Writes the model as `miniml.model.engines` exports it, if it can be."""
    if engines.export(model, model_dir):
        path = model_dir / engines.EXPORTED
        path.write_text(with_steady_names(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_steady_names(graph: str) -> str:
    """OpenVINO's XML with layers named by kind and place, where it numbers whatever the process has made so far.

    Nothing asks for layers by these names: edges go by the layers' ids. Inputs keep theirs.
    """
    return _LAYER.sub(r"\1\4_\2\3", _NET.sub(r'\1model"', graph))
