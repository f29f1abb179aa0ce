"""Keeps what a server needs to begin without torch and transformers, whose imports take most of a start.

The train stage writes `quick_start.json` into the signed folder: a few batches, the reference's answers to them, and
the tokenizer's settings. A server compares OpenVINO with those answers, where it would otherwise load the model into
torch to compute them anew. What has no such file, or does not agree with it, begins with torch.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from miniml.errors import ModelFolderError
from miniml.model import calibration, comparison_batches
from miniml.model.classifier import Classifier, padded, verified
from miniml.model.engines import (
    QUANTIZED,
    REFERENCE,
    Engine,
    Logits,
    Reference,
    ServedModel,
    TokenIds,
    TorchEngine,
    exported,
    pinned,
)
from miniml.model.heads import Head, read_head
from miniml.model.manifest import require_digest
from miniml.model.model_files import in_a_line
from miniml.model.plain_tokenizer import TOKENIZER_NAME, PlainTokenizer, TokenizerSettings
from miniml.processor import default_threads

QUICK_START_NAME = "quick_start.json"
# The decimals of the logits that are kept: far more than the tolerance needs, and too few for rounding to show.
DECIMALS = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferenceAnswers:
    """A few batches, and the answers of the reference to them, or of the engine that the model is bound to."""

    batches: list[list[TokenIds]]
    """Single texts of each length, and then a batch of several."""
    logits: list[Logits]
    """The reference's answers to each batch, before the temperature, each of shape [texts, width]."""
    pads: bool
    """Whether padding leaves the reference's answers as they are."""


def write(model_dir: Path, engine: Engine, head: Head) -> bool:
    """Writes the file, if a server can begin with it.

    Args:
        model_dir: The model folder, with everything else that it will have but the manifest.
        engine: The reference.
        head: The model's head.

    Returns:
        Whether it was written. A model that only torch runs, or with a tokenizer of another kind, has none.
    """
    from transformers import AutoTokenizer

    # The one that evaluation reads, which need not be the one that was saved.
    tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
    has_graph = exported(model_dir) or (model_dir / QUANTIZED).is_file()
    if not has_graph or not _is_read_alike(model_dir, tokenizer, head):
        return False
    try:
        pads = comparison_batches.pads(engine, tokenizer, head)
        batches = [
            {
                "token_ids": [ids.tolist() for ids in batch],
                "logits": _rounded(engine(*padded(tokenizer, batch))),
            }
            for batch in comparison_batches.batches(tokenizer, model_dir, pads)
        ]
    except (RuntimeError, IndexError) as error:
        logger.warning(
            "servers of this model will begin with torch, since it cannot read as many tokens as its tokenizer gives "
            "(model_max_length %s): %s",
            tokenizer.model_max_length,
            in_a_line(error),
        )
        return False
    content = {"tokenizer": asdict(TokenizerSettings.of(tokenizer)), "pads": pads, "batches": batches}
    (model_dir / QUICK_START_NAME).write_text(json.dumps(content) + "\n", encoding="utf-8")
    return True


def is_there(model_dir: Path) -> bool:
    """Returns whether a model folder has the file."""
    return (model_dir / QUICK_START_NAME).is_file()


def load(model_dir: Path) -> Classifier:
    """Loads a model folder; if it has the file, the model itself only when the reference engine first runs.

    Args:
        model_dir: The model folder.

    Returns:
        The classifier on the reference engine.

    Raises:
        InputError: the model's task is not registered, or this machine has not the engine that it is bound to.
        ModelFolderError: a file is missing, was changed, or cannot be loaded.
    """
    if not is_there(model_dir):
        return Classifier.load(model_dir)
    manifest = verified(model_dir)
    try:
        settings = TokenizerSettings(**_content(model_dir)["tokenizer"])
        tokenizer = PlainTokenizer(model_dir, settings)
        # The answers are wanted later, by when it is too late to name the file.
        read(model_dir)
    except Exception as error:  # The library tokenizers raises errors of no class of its own.
        raise ModelFolderError(
            f"model folder {model_dir} is refused: {QUICK_START_NAME} or {TOKENIZER_NAME} cannot be used "
            f"({in_a_line(error)}). Give one that the train stage wrote."
        ) from error
    config = _config(model_dir)
    load_model = partial(_model, model_dir, manifest.digest)
    engine: Reference = TorchEngine.loaded_when_used(REFERENCE, load_model, config)
    if manifest.engine:
        engine = pinned(manifest.engine, ServedModel(engine, model_dir, default_threads()))
    return Classifier(engine, tokenizer, read_head(config, calibration.read(model_dir)), manifest)


def read(model_dir: Path) -> ReferenceAnswers | None:
    """Reads the reference's answers; None where the folder has none."""
    if not is_there(model_dir):
        return None
    content = _content(model_dir)
    batches = content["batches"]
    return ReferenceAnswers(
        [[np.array(ids, dtype=np.int64) for ids in batch["token_ids"]] for batch in batches],
        [np.array(batch["logits"], dtype=np.float32) for batch in batches],
        content["pads"],
    )


def _content(model_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((model_dir / QUICK_START_NAME).read_text(encoding="utf-8"))
    return content


def _is_read_alike(model_dir: Path, tokenizer: Any, head: Head) -> bool:
    """Whether the folder's tokenizer and head are the same ones if they are read without transformers."""
    if not tokenizer.is_fast:
        return False
    tokenizer("", truncation=True)
    try:
        plain = PlainTokenizer(model_dir, TokenizerSettings.of(tokenizer))
        found = read_head(_config(model_dir), head.temperature)
        same_head = type(found) is type(head) and vars(found) == vars(head)
    except Exception as error:  # Libraries raise anything, and so may the head of a task of one's own.
        logger.info("servers of this model will begin with torch: %s", in_a_line(error))
        return False
    return same_head and plain.is_equal_to(tokenizer)


def _model(model_dir: Path, digest: str) -> Any:
    """Loads the model into torch.

    Raises:
        ModelFolderError: another model has taken the folder's place since the tokenizer and the head were read.
    """
    require_digest(model_dir, digest)
    engine = Classifier.load(model_dir).engine
    assert isinstance(engine, TorchEngine)
    return engine.model


def _config(model_dir: Path) -> SimpleNamespace:
    """Returns the attributes of transformers' config that a head reads."""
    settings = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    labels = {int(number): label for number, label in settings["id2label"].items()}
    return SimpleNamespace(
        **{"problem_type": None, **settings, "id2label": labels, "num_labels": len(labels)}
    )


def _rounded(logits: Logits) -> list[list[float]]:
    return [[round(value, DECIMALS) for value in row] for row in logits.astype(np.float64).tolist()]
