"""Makes a model with weights and activations of 8 bits, which is bound to the engine that it was measured on."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from miniml.compression.derived_model import copy_model, describe_and_sign, measure_on_validation
from miniml.compression.int8_support import why_no_int8
from miniml.data import prepared
from miniml.errors import InputError
from miniml.files.folders import written_whole
from miniml.model import manifest, quick_start
from miniml.model.classifier import Classifier
from miniml.model.engines import (
    INT8,
    INT8_BF16,
    QUANTIZED,
    ServedModel,
    TokenIds,
    TorchEngine,
    pinned,
    read_graph,
    save_graph,
)
from miniml.model.manifest import Manifest
from miniml.model.model_files import in_a_line
from miniml.processor import has_fast_bf16, threads_within_quota
from miniml.sampling import evenly_spaced

CALIBRATION_TEXTS = 300
"""The number of training texts whose activations set the ranges of the 8 bits."""


class UnquantizableError(InputError):
    """A model cannot be quantized: NNCF, OpenVINO or the processor's instructions are missing, or cannot take it."""


def quantize(dataset_dir: Path, model_dir: Path, folder: Path) -> Manifest:
    """Writes a model folder with int8 weights and activations beside the weights that they were made of.

    The folder is bound to one of OpenVINO's int8 engines: to the one with bfloat16 where this processor has it. Its
    validation metrics, its temperature and its probes are measured on that engine.

    Args:
        dataset_dir: The dataset that the model was trained on; some of the training texts set the ranges.
        model_dir: The model's folder.
        folder: The folder to write.

    Returns:
        The manifest of the new folder.

    Raises:
        UnquantizableError: the machine lacks something, or NNCF cannot quantize the model.
        ModelFolderError: the model's folder has changed, or cannot be loaded.
        StorageError: the folder cannot be written.
    """
    if reason := why_no_int8():
        raise UnquantizableError(reason)
    graph, full = _graph_of(model_dir), Classifier.load(model_dir)
    assert isinstance(full.engine, TorchEngine)
    texts = full.encode(_calibration_texts(dataset_dir))
    with written_whole(folder, manifest.OUTPUT_NAMES) as partial:
        # Without the export in 32 bits.
        copy_model(model_dir, partial, QUANTIZED.parent.name)
        with threads_within_quota():
            (partial / QUANTIZED).parent.mkdir()
            save_graph(_quantized(graph, texts), partial / QUANTIZED)
            engine = pinned(_engine_here(), ServedModel(full.engine, partial, torch.get_num_threads()))
            metrics = measure_on_validation(full.on(engine), dataset_dir, partial)
            quick_start.write(partial, engine, full.head)
        record = _bound(full.manifest, engine.name, len(texts), metrics)
        return describe_and_sign(partial, record)


def _graph_of(model_dir: Path) -> Any:
    """Returns OpenVINO's graph of a model in floating point.

    Raises:
        UnquantizableError: the train stage wrote none.
    """
    graph = read_graph(model_dir)
    if graph is None:
        raise UnquantizableError(
            f"int8 needs the model in OpenVINO's format, which {model_dir} has not: OpenVINO is missing here or was in "
            f"training, or it cannot convert this architecture."
        )
    return graph


def _calibration_texts(dataset_dir: Path) -> list[str]:
    train = prepared.load(dataset_dir, ("train",))[0]["train"]
    chosen: list[str] = train.select(evenly_spaced(len(train), CALIBRATION_TEXTS))["text"][:]
    return chosen


def _bound(full: Manifest, engine: str, texts: int, metrics: dict[str, float]) -> Manifest:
    """Returns the full model's manifest with the engine that the new model is bound to, and what it was made of."""
    arguments = {
        **full.arguments,
        "engine": engine,
        "quantized": {"digest": full.digest, "texts": texts},
    }
    versions = {**full.versions, "nncf": version("nncf")}
    return replace(full, arguments=arguments, versions=versions, metrics=metrics)


def _engine_here() -> str:
    """Returns the name of the faster int8 engine that this processor has."""
    return INT8_BF16 if has_fast_bf16() else INT8


def _quantized(graph: Any, texts: list[TokenIds]) -> Any:
    """Returns OpenVINO's graph in int8; its activations have the ranges that they have on `texts`."""
    # It sends no telemetry, because `import_openvino` has seen to it that the library for that is not found.
    nncf = import_module("nncf")
    nncf.set_log_level(logging.ERROR)
    # One at a time: padding would widen the ranges by what no text has.
    batches = nncf.Dataset([(ids[None], np.ones_like(ids[None])) for ids in texts])
    try:
        quantized = nncf.quantize(
            graph, batches, subset_size=len(texts), model_type=nncf.ModelType.TRANSFORMER
        )
    except Exception as error:  # NNCF raises anything for an architecture.
        raise UnquantizableError(f"NNCF cannot quantize this model ({in_a_line(error)}).") from error
    # OpenVINO numbers what has no name by a counter of the process; the same model shall have the same digest.
    for number, operation in enumerate(quantized.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
    return quantized
