"""Keeps which engines were the fastest, by kind of processor and shape of the model, for later starts.

A record says only which engines are tried first. Each is compared with the reference again before it answers, so a
record that is wrong costs speed, and never changes an answer by more than the engine's rounding.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from miniml import __version__, processor
from miniml.errors import StorageError
from miniml.files.folders import user_cache

FOLDER = "engines"
# What the speed depends on beside the processor and the model.
LIBRARIES = ("torch", "openvino")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineRecord:
    """The engines that were the fastest."""

    single: str
    """The name of the engine for single texts."""
    batched: str
    """The name of the engine for batches."""


def circumstances(
    model_dir: Path, config: Any, max_length: int, threads: int, engines: Iterable[str]
) -> dict[str, Any]:
    """Returns everything that decides which engine is the fastest; a record holds for what is equal in all of it.

    Args:
        model_dir: The model folder.
        config: The model's settings, as attributes.
        max_length: The number of tokens that it reads of a text.
        threads: The number of threads that the engines use.
        engines: The names of the engines among which was chosen.
    """
    return {
        "processor": processor.name(),
        **processor.gpu(),
        "features": list(processor.features()),
        "threads": threads,
        "libraries": {"miniml": __version__, **{name: _version(name) for name in LIBRARIES}},
        "engines": sorted(engines),
        "model": {
            "type": config.model_type,
            # Weights of as many bytes, of the same type, are of as many layers of the same widths.
            "bytes": sum(path.stat().st_size for path in model_dir.glob("model*.safetensors")),
            "max_length": max_length,
        },
    }


def read(of: dict[str, Any]) -> EngineRecord | None:
    """Returns the record for these circumstances; None where there is none, or it cannot be read."""
    try:
        found = json.loads(_file(of).read_text(encoding="utf-8"))["fastest"]
        return EngineRecord(str(found["single"]), str(found["batched"]))
    except (OSError, StorageError, ValueError, LookupError, TypeError, RecursionError):
        return None


def write(of: dict[str, Any], record: EngineRecord) -> None:
    """Writes the record for these circumstances, unless the cache cannot be written to, which is logged."""
    try:
        file = _file(of)
        file.parent.mkdir(parents=True, exist_ok=True)
        # Several servers may share the cache, and none may read half a record.
        partial = file.with_suffix(f".{secrets.token_hex(8)}")
        try:
            partial.write_text(
                json.dumps({**of, "fastest": asdict(record)}, indent=1) + "\n", encoding="utf-8"
            )
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, StorageError) as error:
        logger.info("the measurements are not kept (%s)", error)


def _file(of: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()
    return user_cache() / FOLDER / f"{digest[:32]}.json"


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
