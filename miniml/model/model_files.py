"""Checks the files of a model folder before a library reads them.

Where a file is truncated, transformers' error names a class; where the folder brings code, it asks on standard input
whether to run it; and where the tokenizer's files are missing, it invents a tokenizer. Training and serving check here
first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

GIT_LFS = b"version https://git-lfs.github.com/spec/"
# Settings of a config that have transformers fetch a kernel from the hub and run it, and the values that do not.
IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
BUILT_IN = (None, "eager", "sdpa")

# In the order in which transformers looks for them: it reads the first that exists.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Other files that are read as JSON; repositories hold further files with that ending.
READ_AS_JSON = {
    *("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "adapter_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "calibration.json", "probes.json"),
    "quick_start.json",
}


class Trouble(NamedTuple):
    """Why a model folder cannot be used."""

    what: str
    """What is wrong, in words."""
    remedy: str
    """What to do about it, in words."""

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}."


def trouble_with(folder: Path, *, weights: bool = True) -> Trouble | None:
    """Returns the first problem with the files of a folder; None where there is none.

    Args:
        folder: The model folder.
        weights: Whether to check the weights too.
    """
    checks = [_pointers, _broken_json, _adapters, _own_code, _kernels, _quantized]
    for check in [*checks, *[_lacking_weights, _broken_weights] * weights]:
        if found := next(check(folder), None):
            return found
    return None


def trouble_with_tokenizer(tokenizer: Any, folder: Path) -> Trouble | None:
    """Returns the files that a tokenizer lacks; None where it lacks none.

    Without them transformers invents a tokenizer that knows no word.

    Args:
        tokenizer: The tokenizer of transformers that was loaded from the folder.
        folder: The model folder.
    """
    wanted = dict(tokenizer.vocab_files_names)
    whole = wanted.pop("tokenizer_file", None)
    # Tokenizers of characters or bytes need no file.
    if (whole and (folder / whole).is_file()) or not (whole or wanted):
        return None
    missing = [name for name in wanted.values() if not (folder / name).is_file()]
    if wanted and not missing:
        return None
    names = " or ".join(filter(None, (whole, " with ".join(wanted.values()))))
    return Trouble(
        f"{names} is missing, which the tokenizer needs",
        "Copy the tokenizer's files there: tokenizer.save_pretrained writes them",
    )


def in_a_line(error: BaseException, most: int = 300) -> str:
    """Returns the message of a library's error on one line of at most `most` characters."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= most else f"{words[:most]}…"


def _pointers(folder: Path) -> Iterator[Trouble]:
    for path in _files(folder):
        with path.open("rb") as file:
            if file.read(len(GIT_LFS)) == GIT_LFS:
                yield Trouble(
                    f"{path.name} is a Git LFS pointer, which stands for the file itself",
                    "Fetch the file: git lfs pull",
                )


def _broken_json(folder: Path) -> Iterator[Trouble]:
    for path in _files(folder, ".json"):
        if path.name not in READ_AS_JSON and path.name not in WEIGHTS:
            continue
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            yield Trouble(f"{path.name} is not JSON ({error})", "Copy it again")
        else:
            if path.name == "config.json" and not isinstance(content, dict):
                yield Trouble(f"{path.name} holds no settings", "Copy it again")


def _adapters(folder: Path) -> Iterator[Trouble]:
    path = folder / "adapter_config.json"
    if path.is_file():
        base = json.loads(path.read_bytes()).get("base_model_name_or_path")
        yield Trouble(
            f"it is an adapter of {base!r} ({path.name})",
            "Merge it into that model (peft's merge_and_unload), and give the folder that save_pretrained writes then",
        )


def _own_code(folder: Path) -> Iterator[Trouble]:
    config = _config(folder)
    kind = config.get("model_type")
    if "auto_map" not in config:
        return
    # Importing it takes seconds, which a server spares.
    from transformers import CONFIG_MAPPING

    # transformers uses its own code for the kinds that it knows, whatever the folder brings.
    if kind not in CONFIG_MAPPING:
        yield Trouble(
            f"it brings code of its own for models of kind {kind!r}, and miniml runs no code of a model folder",
            "Give a model of a kind that transformers knows itself",
        )


def _kernels(folder: Path) -> Iterator[Trouble]:
    for name, value in _settings(_config(folder)):
        if name.strip("_").removesuffix("_internal") in IMPLEMENTATIONS and value not in BUILT_IN:
            yield Trouble(
                f"config.json sets {name} to {value!r}, which is for code outside of transformers",
                "Take the line out: miniml chooses by itself",
            )


def _quantized(folder: Path) -> Iterator[Trouble]:
    if quantized := _config(folder).get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        yield Trouble(
            f"its weights are quantized ({method}), and cannot be trained",
            "Give the model that it was made from",
        )


def _lacking_weights(folder: Path) -> Iterator[Trouble]:
    read = next((name for name in WEIGHTS if (folder / name).is_file()), "")
    if read.endswith(".index.json"):
        for name in sorted(set(json.loads((folder / read).read_bytes()).get("weight_map", {}).values())):
            if not (folder / name).is_file():
                yield Trouble(f"{name} is missing, which {read} lists", "Copy it there")


def _broken_weights(folder: Path) -> Iterator[Trouble]:
    for path in _files(folder, ".safetensors"):
        try:
            with safe_open(path, framework="np"):
                pass
        except SafetensorError as error:
            yield Trouble(
                f"{path.name} cannot be read ({error}), as when a copy ended early", "Copy it again"
            )


def _files(folder: Path, ending: str = "") -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(ending) and path.is_file())


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return found


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields names and values of a config and of its parts; for an implementation by part, each value."""
    for name, value in config.items():
        if isinstance(value, dict) and name.strip("_").removesuffix("_internal") in IMPLEMENTATIONS:
            yield from ((name, each) for each in value.values())
        elif isinstance(value, dict):
            yield from _settings(value)
        else:
            yield name, value
