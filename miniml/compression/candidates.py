"""Makes the smaller models that may replace a fine-tuned one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

from miniml.compression.distillation import distil, require_trained_on
from miniml.compression.int8_support import why_no_int8
from miniml.compression.layers import UncuttableError, number_of_layers, require_layers
from miniml.compression.lengths import lengths_of_training, shorten, shorter_lengths
from miniml.compression.quantization import UnquantizableError, quantize
from miniml.errors import InputError
from miniml.model import manifest
from miniml.progress import logger
from miniml.settings.compression import CompressionSettings

DIVISORS = (2, 3)
"""The parts of the full model's layers that are tried: a half, and a third."""
IN_WORDS = {"layers": "with fewer layers", "length": "with a shorter length", "int8": "in int8"}
"""What is smaller about the candidates of each compression."""
WHY_NONE = {"layers": "the full model has one layer", "length": "it would hardly save any tokens"}
"""Why there are no such candidates of some models."""


@dataclass(frozen=True)
class Candidate:
    """A smaller model that may replace the full one."""

    name: str
    """A name among the candidates, such as "layers-3"."""
    folder: Path
    """Its signed model folder."""
    description: str
    """What is smaller about it, in words."""
    layers: int
    """The number of its encoder layers; 0 where its config has no such number."""
    max_length: int
    """The most tokens of a text that it reads."""
    seconds: float
    """How long it took to make."""


def make_candidates(
    dataset_dir: Path,
    model_dir: Path,
    work_dir: Path,
    settings: CompressionSettings,
    model_uri: str = "",
    split: int = 1,
    tell: Callable[[str], object] = logger.info,
) -> list[Candidate]:
    """Makes the smaller models that the settings ask for, each in a folder of its own in `work_dir`.

    Where it was killed, it continues: trainings from their checkpoints, and those that have ended are not repeated.

    Args:
        dataset_dir: The dataset that the full model was trained on. The split "test" is not opened.
        model_dir: The full model's folder, as `miniml.training.fine_tune` wrote it.
        work_dir: The folder to write to.
        settings: Which models to make, and how.
        model_uri: The address of the full model, if it is known; in an S3 store checkpoints go beside it.
        split: The number of parts in which each batch of a training is computed, to take less memory.
        tell: Is called with the reason for each kind of candidate of which there is none.

    Returns:
        The candidates; none where the full model has one layer, and texts are as short as they are.

    Raises:
        UncuttableError: the settings ask for fewer layers, which the model's architecture does not work with.
        UnquantizableError: the settings ask for int8, for which the machine lacks something, or which cannot be made of
            the model.
        InputError: `student_layers` is no smaller number, the full model was trained on another dataset, or it is in
            int8 itself.
        MinimlError: as `miniml.training.fine_tune`.
    """
    require_trained_on(dataset_dir, model_dir)
    _require_float(model_dir)
    made: list[Candidate] = []
    ways: dict[str, Callable[[], Iterator[Candidate]]] = {
        "layers": lambda: _with_fewer_layers(dataset_dir, model_dir, work_dir, settings, model_uri, split),
        "length": lambda: _with_shorter_length(dataset_dir, model_dir, work_dir, tuple(made)),
        "int8": lambda: _in_int8(dataset_dir, model_dir, work_dir, tuple(made)),
    }
    for way, make in ways.items():
        if settings.compression not in ("auto", way):
            continue
        try:
            found = list(make())
        except (UncuttableError, UnquantizableError) as error:
            if settings.compression == way:
                raise
            tell(f"no candidate {IN_WORDS[way]}: {error}")
        else:
            made += found
            if not found:
                tell(f"no candidate {IN_WORDS[way]}: {WHY_NONE[way]}")
    return made


def _with_fewer_layers(
    dataset_dir: Path,
    model_dir: Path,
    work_dir: Path,
    settings: CompressionSettings,
    model_uri: str,
    split: int,
) -> Iterator[Candidate]:
    """Yields candidates with the full model's maximal length."""
    layers, full = require_layers(model_dir), manifest.read(model_dir)
    answers = work_dir / f"answers-{full.digest[:16]}.npy"
    for kept in layers_to_keep(layers, settings):
        begun = time.monotonic()
        name = f"layers-{kept}"
        logger.info(f"candidate {name}: training {kept} of {layers} layers to give the full model's answers")
        folder = work_dir / name
        distil(dataset_dir, model_dir, kept, answers, folder, settings, model_uri, split)
        seconds = time.monotonic() - begun
        yield Candidate(name, folder, f"{kept} of {layers} layers", kept, _max_length(folder), seconds)


def _with_shorter_length(
    dataset_dir: Path, model_dir: Path, work_dir: Path, made: Sequence[Candidate]
) -> Iterator[Candidate]:
    """Yields the full model, and each that was made before, with the maximal lengths that are worth a try."""
    max_length, layers = _max_length(model_dir), number_of_layers(model_dir)
    lengths = lengths_of_training(dataset_dir, model_dir)
    full = Candidate("", model_dir, "", layers, max_length, 0.0)
    for tried in shorter_lengths(lengths, max_length):
        for model in (full, *made):
            begun = time.monotonic()
            name = "-".join(filter(None, (model.name, f"length-{tried}")))
            logger.info(f"candidate {name}: reading {tried} of {max_length} tokens")
            described = ", ".join(filter(None, (model.description, f"{tried} of {max_length} tokens")))
            shorten(dataset_dir, model.folder, tried, lengths, work_dir / name)
            seconds = model.seconds + time.monotonic() - begun
            yield Candidate(name, work_dir / name, described, model.layers, tried, seconds)


def _in_int8(
    dataset_dir: Path, model_dir: Path, work_dir: Path, made: Sequence[Candidate]
) -> Iterator[Candidate]:
    """Yields the full model, and each that was made before, with weights and activations of 8 bits.

    Raises:
        UnquantizableError: the machine lacks something, or the model cannot be quantized.
    """
    if reason := why_no_int8():
        raise UnquantizableError(reason)
    full = Candidate("", model_dir, "", number_of_layers(model_dir), _max_length(model_dir), 0.0)
    for model in (full, *made):
        begun = time.monotonic()
        name = "-".join(filter(None, (model.name, "int8")))
        logger.info(f"candidate {name}: quantizing")
        quantize(dataset_dir, model.folder, work_dir / name)
        described = ", ".join(filter(None, (model.description, "int8")))
        seconds = model.seconds + time.monotonic() - begun
        yield Candidate(name, work_dir / name, described, model.layers, model.max_length, seconds)


def _require_float(model_dir: Path) -> None:
    """Refuses a model that is a smaller one already, whose weights are not what it answers by.

    Raises:
        InputError: the model is in int8.
    """
    if engine := manifest.read(model_dir).engine:
        raise InputError(
            f"model {model_dir} is in int8, bound to the engine {engine!r}, and nothing smaller is made of it. Give "
            f"the model that train wrote."
        )


def layers_to_keep(layers: int, settings: CompressionSettings) -> list[int]:
    """Returns the numbers of layers of the candidates, the largest first.

    Args:
        layers: The number of the full model's layers.
        settings: Which numbers to try.

    Raises:
        InputError: `student_layers` is no smaller number.
    """
    if settings.student_layers:
        if 0 < layers <= settings.student_layers:
            raise InputError(
                f"student_layers is {settings.student_layers}, but the full model has {layers} layers. Give fewer, or "
                f"0 for a half and a third of them."
            )
        return [settings.student_layers]
    found = {max(1, round(layers / divisor)) for divisor in DIVISORS}
    return sorted((kept for kept in found if kept < layers), reverse=True)


def _max_length(model_dir: Path) -> int:
    tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
    return int(tokenizer.model_max_length)
