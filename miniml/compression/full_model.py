"""Reads the manifest of a full model, of which smaller ones are made."""

from __future__ import annotations

from pathlib import Path

from miniml.errors import InputError
from miniml.model import manifest
from miniml.model.manifest import Manifest

NEEDED = {
    "arguments": ("data", "training", "pretrained"),
    "data": ("fingerprint", "labels", "rows", "rows_per_class", "found", "dropped", "cleaned"),
}
"""What the training of a smaller model, and its model card, take from the full model's manifest."""


def read_full_model(model_dir: Path) -> Manifest:
    """Reads the manifest of a model that was trained, with everything that a smaller model of it takes over.

    Args:
        model_dir: The full model's folder.

    Raises:
        InputError: the manifest does not say how the model was trained.
        ModelFolderError: there is no manifest, it cannot be read, or it does not match its digest.
    """
    signed = manifest.read(model_dir)
    present = {"arguments": signed.arguments, "data": signed.data}
    missing = [
        f"{part}.{name}" for part, names in NEEDED.items() for name in names if name not in present[part]
    ]
    if missing:
        raise InputError(
            f"model {model_dir} does not say how it was trained: its {manifest.MANIFEST_NAME} has no "
            f"{', '.join(missing)}. Give a folder that miniml's train stage wrote."
        )
    return signed
