"""Configures the training loop of transformers, and overrides its loss, batches and logs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import (
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from miniml.errors import TrainingError
from miniml.model.rows_apart import logits_of_rows
from miniml.settings.training import TrainingSettings
from miniml.training.batches import (
    TOKENS_IN_PASS,
    EncodedTexts,
    LengthGrouped,
    SharedBatches,
    collate,
    passes,
    tokens_in_pass,
)
from miniml.training.mean_loss import MeanLoss
from miniml.training.objective import Objective
from miniml.training.processes import Processes
from miniml.training.targets import Target, figures_on_validation
from miniml.training.trainable import leaves_weights_out

# Texts in a forward pass over the validation rows, which keeps no activations for a backward pass.
TEXTS_IN_EVALUATION = 32
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


class DivergedError(TrainingError):
    """A gradient or a loss is no finite number."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"the training diverged: {what}. {remedy}")
        self.what = what


@dataclass
class OneDevice(TrainingArguments):
    """Trains on the chosen GPU, where transformers takes the first one, or all by threads (DataParallel)."""

    chosen: str = "cpu"
    budget: int = TOKENS_IN_PASS["cpu"]
    """The padded tokens in one forward and backward pass, at most."""

    @property
    def device(self) -> torch.device:
        """The chosen GPU; in a distributed training, or on the CPU, what transformers chooses."""
        device = super().device
        return (
            torch.device(self.chosen) if self.chosen.startswith("cuda") and self.world_size == 1 else device
        )

    @property
    def n_gpu(self) -> int:
        """The number of GPUs that this process uses: 1 at most."""
        return min(int(super().n_gpu), 1)


class ClassifierTrainer(Trainer):
    """Trains with transformers' Trainer, but groups texts by length, and splits batches into passes that fit memory."""

    def __init__(
        self,
        model: Any,
        arguments: OneDevice,
        splits: dict[str, EncodedTexts],
        tokenizer: Any,
        target: Target,
        objective: Objective,
    ) -> None:
        if arguments.world_size > 1:
            # Looking for unused weights after each batch takes time, and causes a warning where there are none.
            arguments.ddp_find_unused_parameters = leaves_weights_out(model, tokenizer)
        super().__init__(
            model,
            arguments,
            train_dataset=splits["train"],
            eval_dataset=splits["validation"],
            data_collator=partial(collate, tokenizer, splits["train"].shortest),
            compute_metrics=partial(_validation_metrics, target),
        )
        # The loss below is already divided by the step's texts: transformers must not divide it by the batches too.
        self.loss_is_scaled_for_ga = True
        self._budget = arguments.budget
        self._padding_side = tokenizer.padding_side
        self._config = model.config
        self._objective, self._plain = objective, target.plain
        self._validation = splits["validation"]
        self._order = LengthGrouped(
            splits["train"].lengths,
            texts_in_step=texts_in_step(arguments),
            seed=arguments.seed,
        )
        self.mean_loss = MeanLoss(arguments.device, Processes.started())
        self.add_callback(_NextEpoch(self._order))
        self.add_callback(_LogEachStep())
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self._train_loader(self._order)

    def _train_loader(self, order: LengthGrouped | Sequence[int]) -> DataLoader[Any]:
        """Returns a loader of this process's part of each batch of training texts, in the given order."""
        processes = self.accelerator.num_processes
        batches = SharedBatches(order, self.args.train_batch_size * processes, processes)
        return self._loader(self.train_dataset, batch_sampler=batches)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        # accelerate repeats rows so that all processes have equally many, and drops them again when it gathers logits.
        by_length = self._validation.lengths.argsort(kind="stable").tolist()
        return self._loader(self._validation, batch_size=self.args.eval_batch_size, sampler=by_length)

    def _loader(self, texts: Any, **batches: Any) -> DataLoader[Any]:
        loader: DataLoader[Any] = self.accelerator.prepare(
            DataLoader(
                texts,
                collate_fn=self.data_collator,
                pin_memory=self.args.dataloader_pin_memory,
                **batches,
            )
        )
        return loader

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor]:
        """Takes the batches of a step.

        Args:
            epoch_iterator: The batches that are left of the epoch.
            num_batches: The number of batches in a step.
            device: The device of the count.

        Returns:
            The batches, and the number of their texts, summed over all processes, a scalar.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        texts = torch.tensor(sum(len(batch["labels"]) for batch in batches), device=device)
        return batches, self.accelerator.reduce(texts, "sum")

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Accumulates the gradients of a batch in passes that fit into memory.

        Args:
            model: The model.
            inputs: The batch, with the token ids, the attention mask and the labels.
            num_items_in_batch: The number of texts in the step, over all processes.

        Returns:
            The batch's part of the step's loss, a scalar.
        """
        *others, last = passes(inputs, self._budget, self._padding_side)
        losses = []
        for part in others:
            with self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, num_items_in_batch))
        losses.append(super().training_step(model, last, num_items_in_batch))
        loss = torch.stack(losses).sum()
        self.mean_loss.add(loss)
        return loss

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Computes these texts' part of the step's loss; for validation rows, their mean loss without label smoothing.

        Args:
            model: The model.
            inputs: The batch, with the token ids, the attention mask and the labels.
            return_outputs: Whether to return the logits as well.
            num_items_in_batch: The number of texts in the step, over all processes.

        Returns:
            The loss, a scalar; or the loss and a dictionary with the logits, of shape (texts, outputs).
        """
        labels = inputs["labels"]
        logits = logits_of_rows(model, self._config, inputs["input_ids"], inputs["attention_mask"])
        if model.training:
            # Processes average their gradients; the factor makes that the sum.
            factor = self.accelerator.num_processes / num_items_in_batch
            # A batch without labels holds one text as a placeholder, which does not count.
            loss = self._objective.total(logits[: len(labels)], labels) * factor
        else:
            loss = self._plain.total(logits, labels) / len(labels)
        return (loss, {"logits": logits}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Checks the gradient of each step, and passes on only the points that `logging_steps` asks for.

        Args:
            logs: What the Trainer logs after a step, after a validation, or at the end of the training.
            start_time: When the training began, in seconds since the epoch.

        Raises:
            DivergedError: The length of the gradient is no finite number.
        """
        step = self.state.global_step
        if "grad_norm" in logs:
            self._require_number("length of the gradient", logs["grad_norm"], step)
        if "loss" in logs:
            if step % self.args.logging_steps:
                return
            logs["loss"] = self.mean_loss.of_point(step)
        if "train_loss" in logs:
            logs["train_loss"] = self.mean_loss.of_training(step)
        super().log(logs, start_time)

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """Returns the validation metrics by name.

        Raises:
            DivergedError: The validation loss is no finite number.
        """
        metrics = super().evaluate(*arguments, **named)
        self._require_number("validation loss", metrics["eval_loss"], self.state.global_step)
        return metrics

    def _require_number(self, what: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            remedy = f"Lower learning_rate (now {self.args.learning_rate:g})"
            raise DivergedError(
                f"the {what} is {value} at step {step}",
                f"{remedy}, or set precision to fp32." if self.args.bf16 else f"{remedy}.",
            )


class _NextEpoch(TrainerCallback):
    """Sets the epoch of the order: the loaders around it may not, in a training that continues from a checkpoint."""

    def __init__(self, order: LengthGrouped) -> None:
        self._order = order

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._order.epoch = int(state.epoch or 0)


class _LogEachStep(TrainerCallback):
    """Makes the Trainer log each step, because only its logs have the length of the gradient."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        control.should_log = True


def training_arguments(
    settings: TrainingSettings,
    rows: int,
    device: torch.device,
    bf16: bool,
    scratch: Path,
    budget: int | None = None,
) -> OneDevice:
    """Returns the arguments for transformers' Trainer.

    Args:
        settings: The training's settings.
        rows: The number of training texts.
        device: Where to compute.
        bf16: Whether to compute in bf16, not fp32.
        scratch: The folder that the Trainer writes to.
        budget: The padded tokens in one forward and backward pass, at most; None takes the device's own.
    """
    steps = settings.iterations or settings.epochs * math.ceil(
        rows / (settings.batch_size * settings.gradient_accumulation)
    )
    if device.type == "cuda":
        torch.cuda.set_device(device)  # accelerate computes on the current device.
    return OneDevice(
        chosen=str(device),
        budget=budget or tokens_in_pass(device),
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=Processes.started().share_of(settings),
        per_device_eval_batch_size=TEXTS_IN_EVALUATION,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=SCHEDULES[settings.schedule],
        warmup_steps=max(1, round(steps * settings.warmup_share)) if settings.warmup_share else 0,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_gradient_norm,
        # Four times as fast as the unfused one on a CPU.
        optim="adamw_torch_fused",
        bf16=bf16,
        logging_steps=max(1, steps // 50),
        logging_nan_inf_filter=False,  # A loss that is no number must be noticed.
        eval_strategy="no",  # `History` triggers it.
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=settings.seed,
        **loading(device),
    )


def loading(device: torch.device) -> dict[str, Any]:
    """Returns the arguments of transformers' Trainer that say how batches reach the device.

    To a GPU they are copied from pinned memory while it computes. As accelerate fetches a batch ahead of its use, the
    copy of one step overlaps with the computation of the step before.
    """
    on_gpu = device.type == "cuda"
    return {
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": on_gpu,
        "accelerator_config": {"non_blocking": on_gpu},
    }


def texts_in_step(arguments: TrainingArguments) -> int:
    """Returns the number of texts in an optimizer step, over all processes."""
    of_a_process = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return of_a_process * int(arguments.world_size)


def _validation_metrics(target: Target, prediction: EvalPrediction) -> dict[str, float]:
    """Returns the metrics of all validation rows.

    The plain loss is among them: transformers' own is the mean of the processes' means, in which a repeated text counts
    twice.
    """
    logits, labels = prediction.predictions, prediction.label_ids
    assert isinstance(logits, np.ndarray) and isinstance(labels, np.ndarray)
    return figures_on_validation(target, logits, labels)
