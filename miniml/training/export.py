"""Exports the model reproducibly: the same weights give the same bytes, which the model's digest covers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from miniml.model import engines

_NET = re.compile(r'(<net name=")[^"]*"')
_LAYER = re.compile(r'(<layer id="(\d+)" name=")[^"]*(" type="(?!Parameter)(\w+)")')


def export(model: Any, model_dir: Path) -> None:
    """Exports the model into its folder as `miniml.model.engines` does, if OpenVINO can convert it."""
    if engines.export(model, model_dir):
        path = model_dir / engines.EXPORTED
        path.write_text(with_steady_names(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_steady_names(graph: str) -> str:
    """Renames the layers in OpenVINO's XML by type and id; OpenVINO's own names count across the whole process.

    Nothing refers to layers by name, since edges use ids. Inputs keep their names.
    """
    return _LAYER.sub(r"\1\4_\2\3", _NET.sub(r'\1model"', graph))
