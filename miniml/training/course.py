"""Runs one training from its first step to its last, and again in fp32 where it diverged in bf16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from miniml.files.folders import require_room
from miniml.model.history import Points
from miniml.progress import logger
from miniml.settings.training import TrainingSettings
from miniml.training.batches import EncodedTexts
from miniml.training.best_model import BestModelCallback
from miniml.training.checkpoints import Checkpoints
from miniml.training.compilation import compile_layers
from miniml.training.device import computes_in_bf16, why_not_bf16
from miniml.training.ending import Ending
from miniml.training.gpu import GpuUse
from miniml.training.history import History
from miniml.training.linear_probe import fit_head, texts_fitted_to
from miniml.training.memory import memory_for, require_memory
from miniml.training.objective import Objective
from miniml.training.packing import pack_texts
from miniml.training.pretrained import Pretrained
from miniml.training.processes import Processes
from miniml.training.profiling import profile_steps
from miniml.training.run_info import texts_cut, what_was_used
from miniml.training.targets import Target
from miniml.training.time_limit import Plan, TimeLimit, plan
from miniml.training.trainable import choose_trainable, merged
from miniml.training.trainer import (
    ClassifierTrainer,
    DivergedError,
    OneDevice,
    texts_in_step,
    training_arguments,
)

# On the disk: four for the trained weights, and four for their export, which float16 would make less exact.
BYTES_PER_PARAMETER = 8


@dataclass(frozen=True)
class Course:
    """The result of a training."""

    model: Any
    """The model with the weights that were kept, on the CPU, in float32."""
    metrics: dict[str, float]
    """All of `TrainingResult.metrics` but the temperature."""
    used: dict[str, str | int]
    """The values that the run has chosen by itself (see `run_info.what_was_used`)."""
    points: Points
    """The points of the training curves."""


def train(
    pretrained: Pretrained,
    target: Target,
    splits: dict[str, EncodedTexts],
    device: torch.device,
    model_dir: Path,
    checkpoints: Checkpoints,
    watchers: Sequence[TrainerCallback],
    limit: TimeLimit,
    settings: TrainingSettings,
    split: int = 1,
    objective: Objective | None = None,
) -> Course:
    """Trains on the split "train", and watches the split "validation".

    Args:
        pretrained: The model to start from.
        target: The labels as numbers, with their loss.
        splits: The encoded texts of the splits "train" and "validation".
        device: Where to compute.
        model_dir: The folder that the model will be saved in; its disk must have room.
        checkpoints: Those to continue from, and to write to.
        watchers: Further callbacks, which may end the training.
        limit: The time that training and saving may take.
        settings: The training's settings.
        split: The number of parts in which each batch, and each pass over tokens, is computed.
        objective: The loss to minimize; None is the target's own.

    Raises:
        StorageError: there will be no room for the model, or there is none for a checkpoint.
        StoppedError: SIGTERM came. The last step is in a checkpoint.
        InputError: the settings do not go with the model, the training diverged, or has no time for a step.
    """
    bf16 = computes_in_bf16(device, settings.precision)
    if checkpoints.in_bf16 is not None:  # It continues in the precision in which it began.
        bf16 = checkpoints.in_bf16
    if checkpoints.newest:
        limit.resume(checkpoints.newest)
    objective = objective or target.objective(splits["train"].labels, settings)
    rest = model_dir, checkpoints, watchers, limit, settings, split
    try:
        return _attempt(pretrained, target, objective, splits, device, bf16, *rest)
    except DivergedError as error:
        if not bf16 or settings.precision != "auto":
            raise
        logger.info(f"in bf16 {error.what}: training again in fp32, from the beginning")
        checkpoints.discard()
        limit.plan = None  # It is made anew for slower steps in less time.
    return _attempt(pretrained, target, objective, splits, device, False, *rest)


def _attempt(
    pretrained: Pretrained,
    target: Target,
    objective: Objective,
    splits: dict[str, EncodedTexts],
    device: torch.device,
    bf16: bool,
    model_dir: Path,
    checkpoints: Checkpoints,
    watchers: Sequence[TrainerCallback],
    limit: TimeLimit,
    settings: TrainingSettings,
    split: int,
) -> Course:
    unsplit, settings = settings, in_parts(settings, split)
    torch.manual_seed(settings.seed)  # A new head's weights are drawn when the model is made.
    model, new, drawn = pretrained.classifier()
    require_room(model_dir, int(model.num_parameters() * BYTES_PER_PARAMETER * 1.2), "saving the model")
    pack_texts(model, pretrained.tokenizer.padding_side, device, settings.dropout)
    adapted = choose_trainable(model, new, settings)
    longest = int(splits["train"].lengths.max())
    budget = require_memory(model, longest, device, bf16, settings, memory_for(model, device)) // split
    rows = len(splits["train"])
    if limit:
        if limit.plan is None:
            profiled = training_arguments(settings, rows, device, bf16, checkpoints.folder, budget)
            limit.keep_to(
                _fitting(model, profiled, splits, pretrained.tokenizer, target, objective, limit, settings)
            )
        settings = limit.applied_to(settings)
    arguments = training_arguments(settings, rows, device, bf16, checkpoints.folder, budget)
    if settings.linear_probe and not settings.from_scratch and not checkpoints.newest:
        seen = arguments.max_steps * texts_in_step(arguments)
        fit_head(model, drawn, splits["train"], seen, objective, pretrained.tokenizer, device, bf16)
    trainer = ClassifierTrainer(model, arguments, splits, pretrained.tokenizer, target, objective)
    history = History(settings.evaluations)
    selection = BestModelCallback(
        model, target.head.task.validation_metric(settings.best_by), settings.early_stopping
    )
    ending = Ending(settings.stop_at_step, limit, Processes.started())
    for callback in (history, selection, ending, *watchers):
        trainer.add_callback(callback)
    if settings.stop_at_step > arguments.max_steps:
        logger.info(
            f"stop_at_step {settings.stop_at_step:,} comes after the last of the {arguments.max_steps:,} steps: "
            f"training to the end. Give iterations too, as in the logged line that says how to repeat a training"
        )
    accumulated = f" × {settings.gradient_accumulation}" if settings.gradient_accumulation > 1 else ""
    logger.info(
        f"training {settings.model_id} · {rows:,} rows, {arguments.max_steps:,} steps of {settings.batch_size}"
        f"{accumulated} · {device}, {'bf16' if bf16 else f'fp32{why_not_bf16(device, settings.precision)}'}"
    )
    if settings.compile_layers:
        compile_layers(model)
    gpu_use = GpuUse.begin(model, device, splits["train"].lengths)
    checkpoints.train(trainer, history, selection, limit, trainer.mean_loss)
    selection.apply()
    learning = model.num_parameters(only_trainable=True)
    model = merged(model, adapted).float().to("cpu")
    max_length = pretrained.tokenizer.model_max_length
    sizes = {
        "parameters": float(model.num_parameters()),
        "trained_parameters": float(learning),
        "texts_cut": texts_cut(splits["train"], max_length),
    }
    metrics = history.metrics(selection.step) | sizes
    metrics |= gpu_use.metrics(metrics["train_samples_per_second"] / arguments.world_size)
    used = what_was_used(arguments, device, max_length) | limit.record(
        trainer.state.global_step, arguments.max_steps
    )
    if settings.batch_size != unsplit.batch_size:
        used |= {
            "batch_size": settings.batch_size,
            "gradient_accumulation": settings.gradient_accumulation,
        }
    return Course(model, metrics, used, history.points)


def in_parts(settings: TrainingSettings, split: int) -> TrainingSettings:
    """Returns settings with the same optimizer steps, in batches that are `split` times smaller."""
    return replace(
        settings,
        batch_size=settings.batch_size // split,
        gradient_accumulation=settings.gradient_accumulation * split,
    )


def _fitting(
    model: Any,
    arguments: OneDevice,
    splits: dict[str, EncodedTexts],
    tokenizer: Any,
    target: Target,
    objective: Objective,
    limit: TimeLimit,
    settings: TrainingSettings,
) -> Plan:
    """Plans the steps that fit into the time left. All processes use the first one's measurement, and so plan alike."""
    logger.info("measuring how fast steps are, on a copy of the model")
    wanted_steps, processes = arguments.max_steps, Processes.started()
    tokens, measured = profile_steps(
        model, arguments, splits, tokenizer, target, objective, 60 * limit.minutes
    )
    measured, left = processes.broadcast((measured, limit.left))
    per_text = measured.validation / len(splits["validation"]) if settings.linear_probe else 0.0
    in_step, rows = texts_in_step(arguments), len(splits["train"])
    return plan(
        tokens,
        in_step,
        wanted_steps,
        settings.evaluations,
        measured,
        left,
        beginning=lambda steps: per_text * texts_fitted_to(steps * in_step, rows, target.head.width),
    )
