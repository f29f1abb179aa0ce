"""Writes and verifies `miniml.json`: the SHA-256 of each file of a model folder, and how the model was made.

The digest covers what the model is: every file's hash, the data's fingerprint, the arguments, versions and metrics. So
one string of 64 characters signs off a model and its history, and repeating the training gives the same digest. The
manifest also says how long the training took, on which machine, and where its checkpoints were. The digest leaves that
out; a checksum, `record`, protects it against accidents only, because anybody could write another one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from miniml.errors import ModelFolderError
from miniml.files.digests import digest_of, sha256
from miniml.files.listed_files import is_regular, regular_files, require_paths, require_sha256

MANIFEST_NAME = "miniml.json"
FAILURE_NAME = "failure.json"
"""In place of the manifest in the folder of a trial that failed (see `miniml.search.failure`)."""
OUTPUT_NAMES = (MANIFEST_NAME, FAILURE_NAME)
"""Every folder that train writes holds one of these files."""
NO_MODEL_NAME = "no_model.json"
"""In place of the manifest in the folder of compress, where no smaller model was chosen."""
FORMAT = 2
ALL_IN_THE_DIGEST = 1
"""The old format, whose digest also covers what belongs to one run; its folders can still be read."""

# What belongs to one run, not to the model. People read these files; nothing that loads a model does. Any other name
# here would let an attacker add a file to a signed folder that something loads.
FILES_OF_A_RUN = ("README.md", "training_history.json")
METRICS_OF_A_RUN = ("train_seconds", "train_samples_per_second", "peak_gpu_mib", "gpu_utilization")
SETTINGS_OF_A_RUN = ("checkpoints", "checkpoint_interval", "log_to")
FACTS_OF_A_RUN = "used"
"""The key of the arguments that hold the machine, its threads, and the steps that fitted into the time limit."""


@dataclass(frozen=True)
class Manifest:
    """The content of `miniml.json`, without the digest."""

    files: dict[str, str]
    """The SHA-256 of each file, hexadecimal, by its path in the model folder, with "/" as separator."""
    data: dict[str, Any]
    """The dataset that the model was trained on: fingerprint, source, rows, labels."""
    arguments: dict[str, Any]
    versions: dict[str, str]
    metrics: dict[str, float]
    format: int = FORMAT

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Manifest:
        """Builds a manifest from what was read, and checks it, because anybody may have written it.

        Raises:
            ValueError: a value is not allowed in a manifest.
            TypeError: a field is missing or unknown.
        """
        found = cls(**stored)
        if found.format not in (ALL_IN_THE_DIGEST, FORMAT):
            raise ValueError(
                f"it has format {found.format}, this miniml reads {ALL_IN_THE_DIGEST} and {FORMAT}"
            )
        for name in ("files", "data", "arguments", "versions", "metrics"):
            if not isinstance(getattr(found, name), dict):
                raise ValueError(f"{name} is not an object")
        require_paths(found.files)
        if MANIFEST_NAME in found.files:
            raise ValueError(f"{MANIFEST_NAME} lists itself")
        for sha in found.files.values():
            require_sha256(sha)
        return found

    @property
    def digest(self) -> str:
        """The SHA-256 of the canonical JSON of what the model is, hexadecimal."""
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
    def engine(self) -> str:
        """The name of the engine that the model is bound to, because its answers are that engine's; "" for any."""
        return str(self.arguments.get("engine", ""))

    @property
    def record(self) -> str:
        """The SHA-256 of the canonical JSON of the whole manifest, hexadecimal."""
        return digest_of(asdict(self))

    def text(self) -> str:
        """Returns the text of `miniml.json`."""
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
    """Hashes every file of a model folder, and writes the manifest into it.

    Args:
        model_dir: The model folder.
        data: The dataset that the model was trained on.
        arguments: The arguments of the training.
        versions: The versions of the libraries.
        metrics: The metrics of the training.

    Raises:
        ModelFolderError: the folder holds a link, or something else that is no regular file.
    """
    files = {name: sha256(model_dir / name) for name in _file_names(model_dir)}
    manifest = Manifest(files, data, arguments, versions, metrics)
    write(model_dir, manifest)
    return manifest


def holds_model(folder: Path) -> bool:
    """Returns whether a folder holds a model: compress writes none where no smaller model was chosen."""
    return (folder / MANIFEST_NAME).exists()


def folder_with(digest: str, folders: Sequence[Path]) -> Path:
    """Returns the folder whose manifest has a digest, such as the digest of the evaluated model.

    Args:
        digest: The digest.
        folders: The full model's folder, and those of smaller ones, which may hold none.

    Returns:
        The folder; the first one where none has the digest, which whoever verifies it will refuse.
    """
    found = (each for each in folders if holds_model(each) and read(each).digest == digest)
    return next(found, folders[0])


def write(model_dir: Path, manifest: Manifest) -> None:
    """Writes `miniml.json`; the same manifest gives the same bytes."""
    (model_dir / MANIFEST_NAME).write_text(manifest.text(), encoding="utf-8")


def verify(model_dir: Path) -> Manifest:
    """Reads the manifest of `model_dir` and checks every file against it.

    Raises:
        ModelFolderError: there is no manifest, or a file is missing, changed, not listed or no regular file; the
            message names it.
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
    """Checks that the manifest has the expected digest; `verify` checks the files.

    Args:
        model_dir: The model folder.
        expected: A digest of 64 hexadecimal digits.

    Raises:
        ModelFolderError: the folder holds another model, or has no valid manifest.
    """
    if (found := read(model_dir).digest) != expected:
        raise _refused(model_dir, f"its digest is {found[:12]}…, signed off was {expected[:12]}…")


def read(model_dir: Path) -> Manifest:
    """Reads the manifest and checks its digest, but not the files that it lists.

    Raises:
        ModelFolderError: there is no manifest, it cannot be read, or it does not match its digest.
    """
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


def _without(values: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _file_names(model_dir: Path) -> list[str]:
    """Returns the paths of all files but the manifest; a file of its name in a subfolder is like any other."""
    try:
        return [name for name in regular_files(model_dir) if name != MANIFEST_NAME]
    except (OSError, ValueError) as error:
        raise _refused(model_dir, str(error)) from error


def _refused(model_dir: Path, reason: str) -> ModelFolderError:
    return ModelFolderError(
        f"model folder {model_dir} is refused: {reason}. It is not the model that was trained and evaluated: "
        f"restore it, or train again."
    )
