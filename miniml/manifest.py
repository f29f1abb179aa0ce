"""`miniml.json`: what a model folder holds, by SHA-256, and how it came about.

The digest is taken over the whole manifest (every file's hash, the data's fingerprint, the arguments,
versions and metrics), so one string of 64 characters signs off a model and its history.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from miniml.errors import ModelFolderError

MANIFEST_NAME = "miniml.json"
FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What stands in `miniml.json`, beside the digest."""

    files: dict[str, str]
    """SHA-256 (hexadecimal) by path relative to the model folder, "/" between its parts."""
    data: dict[str, Any]
    """The dataset that the model was trained on: fingerprint, source, rows, labels."""
    arguments: dict[str, Any]
    versions: dict[str, str]
    metrics: dict[str, float]
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of everything above."""
        return digest_of(asdict(self))


def sign(
    model_dir: Path,
    *,
    data: dict[str, Any],
    arguments: dict[str, Any],
    versions: dict[str, str],
    metrics: dict[str, float],
) -> Manifest:
    """Hashes every file of `model_dir` and writes the manifest beside them."""
    files = {name: sha256(model_dir / name) for name in _file_names(model_dir)}
    manifest = Manifest(files, data, arguments, versions, metrics)
    write(model_dir, manifest)
    return manifest


def write(model_dir: Path, manifest: Manifest) -> None:
    """Writes `miniml.json`; the same manifest gives the same bytes."""
    text = json.dumps({"digest": manifest.digest, **asdict(manifest)}, indent=2, ensure_ascii=False)
    (model_dir / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def verify(model_dir: Path) -> Manifest:
    """Reads the manifest of `model_dir` and checks every file against it.

    Raises:
        ModelFolderError: no manifest, or a file is missing, changed or not listed; the message names it.
    """
    manifest = read(model_dir)
    present = _file_names(model_dir)
    if missing := sorted(manifest.files.keys() - set(present)):
        raise _refused(model_dir, f"{missing[0]} is missing")
    if unlisted := sorted(set(present) - manifest.files.keys()):
        raise _refused(model_dir, f"{unlisted[0]} is not listed in {MANIFEST_NAME}")
    for name, expected in manifest.files.items():
        if (found := sha256(model_dir / name)) != expected:
            raise _refused(model_dir, f"{name} has SHA-256 {found[:12]}…, signed off was {expected[:12]}…")
    return manifest


def require_digest(model_dir: Path, expected: str) -> None:
    """Refuses a folder that is signed, but as another model than `expected`: a digest of 64 hexadecimal digits.

    The files are not looked at; `verify` does that.

    Raises:
        ModelFolderError: it is another model, or has no manifest.
    """
    if (found := read(model_dir).digest) != expected:
        raise _refused(model_dir, f"its digest is {found[:12]}…, signed off was {expected[:12]}…")


def read(model_dir: Path) -> Manifest:
    """Reads the manifest and checks its own digest, but not the files that it lists."""
    path = model_dir / MANIFEST_NAME
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        digest = stored.pop("digest")
        manifest = Manifest(**stored)
    except FileNotFoundError as error:
        raise ModelFolderError(
            f"{model_dir} has no {MANIFEST_NAME}, so nothing says what belongs in it. "
            f"Give the folder that miniml's train stage wrote."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(model_dir, f"{MANIFEST_NAME} cannot be read ({error})") from error
    if manifest.format != FORMAT:
        raise _refused(model_dir, f"{MANIFEST_NAME} has format {manifest.format}, this miniml reads {FORMAT}")
    if manifest.digest != digest:
        raise _refused(model_dir, f"{MANIFEST_NAME} does not match its own digest")
    return manifest


def digest_of(content: dict[str, Any]) -> str:
    """SHA-256 (hexadecimal) over the canonical JSON of `content`: keys sorted, no blanks, UTF-8."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_names(model_dir: Path) -> list[str]:
    return sorted(
        path.relative_to(model_dir).as_posix()
        for path in model_dir.rglob("*")
        if path.is_file() and path.name != MANIFEST_NAME
    )


def _refused(model_dir: Path, reason: str) -> ModelFolderError:
    return ModelFolderError(
        f"model folder {model_dir} is refused: {reason}. It is not the model that was trained and evaluated: "
        f"restore it, or train again."
    )
