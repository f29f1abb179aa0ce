"""Measures how long a training's steps take on this machine, by running some of them on a copy of the model.

It does not change the training that follows: it trains a copy, and the next trainer sets all random seeds again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml.model import calibration, engines, probes
from miniml.model.classifier import batches_of_like_length, logits_of
from miniml.sampling import evenly_spaced
from miniml.training import time_limit
from miniml.training.batches import EncodedTexts, LengthGrouped
from miniml.training.objective import Objective
from miniml.training.processes import Processes
from miniml.training.targets import Target
from miniml.training.time_limit import Measured, Tokens
from miniml.training.trainer import TEXTS_IN_EVALUATION, ClassifierTrainer, OneDevice, texts_in_step

# The steps to profile, as quantiles of all steps by their padded tokens. The median comes first, so that even a short
# profile has measured a typical step.
QUANTILES = (0.5, 0.9, 0.1, 0.7, 0.3)
WARM_UP = 2
"""The number of first steps that are not counted, since they are slow."""
SHARE_OF_LIMIT = 0.1
"""The fraction of the time limit for the profiled steps. If they are slow, fewer are run, but at least one counts."""
TEXTS_AT_THE_END = 8
"""The texts that are run to estimate how long the calibration takes."""
# The time to convert, write and read a model, plus an amount for each million parameters. On two cores that did other
# work too, a tiny BERT took 4 s, MiniLM (23 million) 6 s and BERT-base 17 s.
SECONDS_OF_SAVING, SECONDS_PER_MILLION = 3.0, 0.13


def profile_steps(
    model: Any,
    arguments: OneDevice,
    splits: dict[str, EncodedTexts],
    tokenizer: Any,
    target: Target,
    objective: Objective,
    seconds: float,
) -> tuple[Tokens, Measured]:
    """Measures how long steps, evaluation and saving take.

    Args:
        model: The model to train; a copy of it is used.
        arguments: A copy of the training's arguments, which this changes.
        splits: The texts of "train" and "validation".
        tokenizer: The model's tokenizer.
        target: The labels of the training.
        objective: The loss of the training.
        seconds: The time limit.

    Returns:
        The padded tokens of each step of an epoch, shape [steps], and the measured durations.
    """
    train, validation = splits["train"], splits["validation"]
    in_step = texts_in_step(arguments)
    order = np.array(list(LengthGrouped(train.lengths, in_step, arguments.seed)))
    tokens = padded_tokens(train.lengths[order], arguments)
    steps = _chosen(tokens[: max(1, len(order) // in_step)])
    rows = np.concatenate([order[step * in_step : (step + 1) * in_step] for step in steps])
    evaluated = _evenly_by_length(validation, TEXTS_IN_EVALUATION)

    model = copy.deepcopy(model)
    ending = _seconds_of_ending(model, validation, target, tokenizer)
    arguments.learning_rate = 0.0  # So that the copy does not diverge.
    arguments.max_steps = len(steps)
    excerpts = {"train": _excerpt(train, rows), "validation": evaluated}
    trainer = _InOrder(model, arguments, excerpts, tokenizer, target, objective)
    stopwatch = _Stopwatch(arguments, seconds * SHARE_OF_LIMIT)
    trainer.add_callback(stopwatch)
    trainer.train()
    begun = time_limit.clock()
    trainer.evaluate()
    fraction = _tokens_of_validation(evaluated) / _tokens_of_validation(validation) * arguments.world_size
    evaluating = (time_limit.clock() - begun) / fraction
    trainer.accelerator.free_memory()
    durations = [
        (int(tokens[step]), duration) for step, duration in zip(steps, stopwatch.seconds, strict=False)
    ]
    return tokens, Measured(durations[WARM_UP:] or durations[-1:], evaluating, ending)


def padded_tokens(lengths: Tokens, arguments: OneDevice) -> Tokens:
    """Returns the padded tokens of each step, shape [steps]; of several processes, those of the one with the most.

    Args:
        lengths: The tokens of each text, in the order of the training, shape [texts].
        arguments: The arguments of the training.
    """
    size, budget = arguments.per_device_train_batch_size, arguments.budget
    batches = [_padded(lengths[begin : begin + size], budget) for begin in range(0, len(lengths), size)]
    processes, accumulated = arguments.world_size, arguments.gradient_accumulation_steps
    steps = np.zeros((-(-len(batches) // (processes * accumulated)), accumulated, processes), dtype=np.int64)
    steps.flat[: len(batches)] = batches
    of_steps: Tokens = steps.max(axis=2).sum(axis=1)
    return of_steps


def _padded(lengths: Tokens, budget: int) -> int:
    """Returns the padded tokens of a batch in the passes that compute it (see `batches.passes`)."""
    whole = len(lengths) * int(lengths.max())
    if whole <= budget:
        return whole
    parts = batches_of_like_length(lengths.tolist(), budget)
    return sum(len(rows) * int(lengths[rows].max()) for rows in parts)


def _chosen(tokens: Tokens) -> list[int]:
    """Returns the numbers of the steps to profile."""
    order = tokens.argsort(kind="stable")
    return [int(order[int(share * len(order))]) for share in (*QUANTILES[:1] * WARM_UP, *QUANTILES)]


def _excerpt(texts: EncodedTexts, rows: Sequence[int] | Tokens) -> EncodedTexts:
    tokens = np.concatenate([texts.token_ids(row) for row in rows]).astype(np.int32)
    return EncodedTexts(tokens, texts.lengths[rows].tolist(), texts.labels[rows])


def _evenly_by_length(texts: EncodedTexts, limit: int) -> EncodedTexts:
    """Returns at most `limit` texts, at even quantiles of the lengths."""
    order = texts.lengths.argsort(kind="stable")
    return _excerpt(texts, order[evenly_spaced(len(order), limit)])


def _tokens_of_validation(texts: EncodedTexts) -> int:
    """Returns the padded tokens of all batches in which the trainer evaluates."""
    lengths = np.sort(texts.lengths)
    batches = [
        lengths[begin : begin + TEXTS_IN_EVALUATION] for begin in range(0, len(lengths), TEXTS_IN_EVALUATION)
    ]
    return sum(len(batch) * int(batch.max()) for batch in batches)


def _seconds_of_ending(model: Any, validation: EncodedTexts, target: Target, tokenizer: Any) -> float:
    """Estimates what follows the last evaluation, when `fine_tune` has the model on the CPU, in float32."""
    engine = engines.TorchEngine(engines.REFERENCE, model.eval())
    texts = _evenly_by_length(validation, TEXTS_AT_THE_END).first(TEXTS_AT_THE_END)
    logits_of(engine, tokenizer, target.head.width, texts[:1])
    begun = time_limit.clock()
    logits_of(engine, tokenizer, target.head.width, texts)
    per_token = (time_limit.clock() - begun) / sum(map(len, texts))
    tokens = sum(
        int(validation.lengths[:rows].sum()) for rows in (calibration.CALIBRATION_ROWS, probes.CANDIDATES)
    )
    saving: float = SECONDS_OF_SAVING + SECONDS_PER_MILLION * model.num_parameters() / 1e6
    return tokens * per_token + saving


class _InOrder(ClassifierTrainer):
    """Trains on the texts in the order of the dataset."""

    def get_train_dataloader(self) -> Any:
        texts: Any = self.train_dataset
        return self._train_loader(range(len(texts)))


class _Stopwatch(TrainerCallback):
    """Measures the duration of each step, and ends the training early if the steps are slow."""

    def __init__(self, arguments: TrainingArguments, limit: float) -> None:
        """Stops the training when its steps have taken more than `limit` seconds in all."""
        self.seconds: list[float] = []
        self._device, self._limit, self._before = arguments.device, limit, 0.0
        self._processes = Processes.started()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._before = time_limit.clock()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()  # A GPU computes asynchronously.
        now = time_limit.clock()
        self.seconds.append(now - self._before)
        self._before = now
        enough = len(self.seconds) > 1 and sum(self.seconds) > self._limit
        if self._processes.all_reduce_max(float(enough)):
            control.should_training_stop = True
