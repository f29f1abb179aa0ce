"""`miniml.json`: what a model folder holds, by SHA-256, and how it came about.

The digest is taken over what the model is: every file's hash, the data's fingerprint, the arguments, versions and
metrics. So one string of 64 characters signs off a model and its history, and the same training over again gives the
same one. How long it took, on which machine, and where its checkpoints were is told as well, and in the digest's place
protected against accidents by a checksum (`record`): anybody could write another one.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from miniml.errors import ModelFolderError
from miniml.files.digests import digest_of, sha256
from miniml.files.listed_files import is_regular, regular_files, require_paths, require_sha256

MANIFEST_NAME = "miniml.json"
FORMAT = 2
ALL_IN_THE_DIGEST = 1
"""The format whose digest also covered what is of one run only; its folders are read, and keep their digests."""

# What tells of one run, and not of the model. These files are for people: nothing that loads a model reads them. (Any
# other name here would let a stranger add to a signed folder what something loads.)
FILES_OF_A_RUN = ("README.md", "training_history.json")
METRICS_OF_A_RUN = ("train_seconds", "train_samples_per_second")
SETTINGS_OF_A_RUN = ("checkpoints", "checkpoint_interval", "log_to")
FACTS_OF_A_RUN = "used"
"""Of the arguments: the machine, its threads, and how many steps fitted into the time that it had."""


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

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Manifest:
        """What was read from a file or a store, where somebody else may have written it.

        Raises:
            ValueError, TypeError: it is no manifest.
        """
        found = cls(**stored)
        if found.format not in (ALL_IN_THE_DIGEST, FORMAT):
            raise ValueError(
                f"it has format {found.format}, this miniml reads {ALL_IN_THE_DIGEST} and {FORMAT}"
            )
        for name in ("files", "data", "arguments", "versions", "metrics"):
            if not isinstance(getattr(found, name), dict):
                raise ValueError(f"{name} is no table")
        require_paths(found.files)
        if MANIFEST_NAME in found.files:
            raise ValueError(f"{MANIFEST_NAME} lists itself")
        for sha in found.files.values():
            require_sha256(sha)
        return found

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of what the model is."""
        if self.format == ALL_IN_THE_DIGEST:
            return digest_of(asdict(self))
        arguments = _without(self.arguments, (FACTS_OF_A_RUN,))
        if isinstance(settings := arguments.get("training"), dict):
            arguments["training"] = _without(settings, SETTINGS_OF_A_RUN)
        return digest_of(
            {
                **asdict(self),
                "files": _without(self.files, FILES_OF_A_RUN),
                "arguments": arguments,
                "metrics": _without(self.metrics, METRICS_OF_A_RUN),
            }
        )

    @property
    def record(self) -> str:
        """SHA-256 over the canonical JSON of everything."""
        return digest_of(asdict(self))

    def text(self) -> str:
        """What `miniml.json` holds."""
        signatures = {"digest": self.digest}
        if self.format != ALL_IN_THE_DIGEST:
            signatures["record"] = self.record
        return json.dumps({**signatures, **asdict(self)}, indent=2, ensure_ascii=False) + "\n"


def sign(
    model_dir: Path,
    *,
    data: dict[str, Any],
    arguments: dict[str, Any],
    versions: dict[str, str],
    metrics: dict[str, float],
) -> Manifest:
    """Hashes every file of `model_dir` and writes the manifest beside them.

    Raises:
        ModelFolderError: there is a link in it, or another thing that is no regular file.
    """
    files = {name: sha256(model_dir / name) for name in _file_names(model_dir)}
    manifest = Manifest(files, data, arguments, versions, metrics)
    write(model_dir, manifest)
    return manifest


def write(model_dir: Path, manifest: Manifest) -> None:
    """Writes `miniml.json`; the same manifest gives the same bytes."""
    (model_dir / MANIFEST_NAME).write_text(manifest.text(), encoding="utf-8")


def verify(model_dir: Path) -> Manifest:
    """Reads the manifest of `model_dir` and checks every file against it.

    Raises:
        ModelFolderError: no manifest, or a file is missing, changed, not listed or no regular file; the message names
            it.
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
    if not path.is_symlink() and not path.exists():
        raise ModelFolderError(
            f"{model_dir} has no {MANIFEST_NAME}, so nothing says what belongs in it. "
            f"Give the folder that miniml's train stage wrote."
        )
    if not is_regular(path):
        raise _refused(model_dir, f"{MANIFEST_NAME} is a link, or no regular file")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        digest, record = stored.pop("digest"), stored.pop("record", None)
        manifest = Manifest.of(stored)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refused(model_dir, f"{MANIFEST_NAME} cannot be read ({error})") from error
    if manifest.digest != digest or record not in (
        (None,) if manifest.format == ALL_IN_THE_DIGEST else (manifest.record,)
    ):
        raise _refused(model_dir, f"{MANIFEST_NAME} does not match its own digest")
    return manifest


def _without(table: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}


def _file_names(model_dir: Path) -> list[str]:
    """Of all files but the manifest itself; one of that name in a folder of the model's is a file as any other."""
    try:
        return [name for name in regular_files(model_dir) if name != MANIFEST_NAME]
    except (OSError, ValueError) as error:
        raise _refused(model_dir, str(error)) from error


def _refused(model_dir: Path, reason: str) -> ModelFolderError:
    return ModelFolderError(
        f"model folder {model_dir} is refused: {reason}. It is not the model that was trained and evaluated: "
        f"restore it, or train again."
    )
