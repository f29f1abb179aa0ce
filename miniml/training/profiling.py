"""Times some of a training's own steps on a copy of its model, to see how long they take on this machine.

It leaves nothing behind: what it trains is the copy, and the trainer that comes after it sets all random numbers anew.
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
from miniml.training import time_limit
from miniml.training.batches import EncodedTexts, LengthGrouped, tokens_in_pass
from miniml.training.objective import Objective
from miniml.training.processes import Processes
from miniml.training.targets import Target
from miniml.training.time_limit import Measured, Tokens
from miniml.training.trainer import TEXTS_IN_EVALUATION, ClassifierTrainer, OneDevice, texts_in_step

# Which steps of an epoch, of all by their padded tokens: the middle of each fifth, that of the third first, so that a
# profile which has to be short has seen a step like most.
PLACES = (0.5, 0.9, 0.1, 0.7, 0.3)
WARM_UP = 2
"""The first steps of a process are slow, and do not count."""
SHARE_OF_LIMIT = 0.1
"""Of the time limit that the profiled steps may take; of slow ones there are fewer, but one that counts at least."""
TEXTS_AT_THE_END = 8
"""That are read as calibration reads its texts, to see how long that takes."""
# Converting, writing and reading a model again. A tiny BERT took 4 s, MiniLM (23 million) 6 and BERT-base 17, on two
# cores with other work beside it.
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
    """The padded tokens of each step of an epoch, and how long steps, validation and saving take.

    Args:
        arguments: As of the training to come, but a copy: it changes them.
        seconds: The time limit.
    """
    train, validation = splits["train"], splits["validation"]
    in_step = texts_in_step(arguments)
    order = np.array(list(LengthGrouped(train.lengths, in_step, arguments.seed)))
    tokens = padded_tokens(train.lengths[order], arguments)
    steps = _chosen(tokens[: max(1, len(order) // in_step)])
    rows = np.concatenate([order[step * in_step : (step + 1) * in_step] for step in steps])
    looked_at = _evenly_by_length(validation, TEXTS_IN_EVALUATION)

    model = copy.deepcopy(model)
    ending = _seconds_of_ending(model, validation, target, tokenizer)
    arguments.learning_rate = 0.0  # No copy diverges.
    arguments.max_steps = len(steps)
    excerpts = {"train": _excerpt(train, rows), "validation": looked_at}
    trainer = _InOrder(model, arguments, excerpts, tokenizer, target, objective)
    stopwatch = _Stopwatch(arguments, seconds * SHARE_OF_LIMIT)
    trainer.add_callback(stopwatch)
    trainer.train()
    begun = time_limit.clock()
    trainer.evaluate()
    share = _tokens_of_validation(looked_at) / _tokens_of_validation(validation) * arguments.world_size
    looking = (time_limit.clock() - begun) / share
    trainer.accelerator.free_memory()
    taken = [(int(tokens[step]), took) for step, took in zip(steps, stopwatch.seconds, strict=False)]
    return tokens, Measured(taken[WARM_UP:] or taken[-1:], looking, ending)


def padded_tokens(lengths: Tokens, arguments: TrainingArguments) -> Tokens:
    """Of texts in the order in which they are trained on, the padded tokens of each step, shape [steps].

    Of several processes, those of the one that has most to do.
    """
    size, budget = arguments.per_device_train_batch_size, tokens_in_pass(arguments.device)
    batches = [_padded(lengths[begin : begin + size], budget) for begin in range(0, len(lengths), size)]
    at_once, in_a_row = arguments.world_size, arguments.gradient_accumulation_steps
    steps = np.zeros((-(-len(batches) // (at_once * in_a_row)), in_a_row, at_once), dtype=np.int64)
    steps.flat[: len(batches)] = batches
    found: Tokens = steps.max(axis=2).sum(axis=1)
    return found


def _padded(lengths: Tokens, budget: int) -> int:
    """Of a batch, in the passes in which it is computed (see `batches.passes`)."""
    whole = len(lengths) * int(lengths.max())
    if whole <= budget:
        return whole
    parts = batches_of_like_length(lengths.tolist(), budget)
    return sum(len(rows) * int(lengths[rows].max()) for rows in parts)


def _chosen(tokens: Tokens) -> list[int]:
    """The numbers of the steps to profile_steps."""
    order = tokens.argsort(kind="stable")
    return [int(order[int(place * len(order))]) for place in (*PLACES[:1] * WARM_UP, *PLACES)]


def _excerpt(texts: EncodedTexts, rows: Sequence[int] | Tokens) -> EncodedTexts:
    tokens = np.concatenate([texts.token_ids(row) for row in rows]).astype(np.int32)
    return EncodedTexts(tokens, texts.lengths[rows].tolist(), texts.labels[rows])


def _evenly_by_length(texts: EncodedTexts, most: int) -> EncodedTexts:
    """As many texts, from the shortest to the longest."""
    order = texts.lengths.argsort(kind="stable")
    return _excerpt(texts, order[np.linspace(0, len(order) - 1, min(most, len(order))).astype(int)])


def _tokens_of_validation(texts: EncodedTexts) -> int:
    """Padded, in the batches in which the trainer looks at them."""
    lengths = np.sort(texts.lengths)
    batches = [
        lengths[begin : begin + TEXTS_IN_EVALUATION] for begin in range(0, len(lengths), TEXTS_IN_EVALUATION)
    ]
    return sum(len(batch) * int(batch.max()) for batch in batches)


def _seconds_of_ending(model: Any, validation: EncodedTexts, target: Target, tokenizer: Any) -> float:
    """As `fine_tune` ends: the model is on the processor, in float32."""
    engine = engines.TorchEngine(engines.REFERENCE, model.eval())
    texts = _evenly_by_length(validation, TEXTS_AT_THE_END).first(TEXTS_AT_THE_END)
    logits_of(engine, tokenizer, target.head.width, texts[:1])
    begun = time_limit.clock()
    logits_of(engine, tokenizer, target.head.width, texts)
    per_token = (time_limit.clock() - begun) / sum(map(len, texts))
    read = sum(
        int(validation.lengths[:most].sum()) for most in (calibration.CALIBRATION_ROWS, probes.CANDIDATES)
    )
    saving: float = SECONDS_OF_SAVING + SECONDS_PER_MILLION * model.num_parameters() / 1e6
    return read * per_token + saving


class _InOrder(ClassifierTrainer):
    """Takes its texts as they come."""

    def get_train_dataloader(self) -> Any:
        texts: Any = self.train_dataset
        return self._in_shares(range(len(texts)))


class _Stopwatch(TrainerCallback):
    """Takes the time of each step, and ends a training of slow ones early."""

    def __init__(self, arguments: TrainingArguments, most: float) -> None:
        """`most` is in seconds, of all steps."""
        self.seconds: list[float] = []
        self._device, self._most, self._before = arguments.device, most, 0.0
        self._processes = Processes.started()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._before = time_limit.clock()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()  # It is told what to do faster than it does it.
        now = time_limit.clock()
        self.seconds.append(now - self._before)
        self._before = now
        enough = len(self.seconds) > 1 and sum(self.seconds) > self._most
        if self._processes.all_reduce_max(float(enough)):
            control.should_training_stop = True
