"""The loop is transformers' own; this says how it is set."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from miniml.settings import TrainingSettings
from miniml.training.device import computes_in_bf16

# Points of the validation curve; each costs a pass over the validation rows.
EVALUATIONS = 2


def make_trainer(
    model: Any,
    tokenizer: Any,
    tokenized: dict[str, datasets.Dataset],
    device: torch.device,
    scratch: Path,
    settings: TrainingSettings,
) -> Trainer:
    """A trainer that says nothing by itself, and keeps nothing in `scratch` for long."""
    steps = _steps(len(tokenized["train"]), settings)
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=32,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=max(1, steps // 10),
        # Batches of like length are padded least.
        train_sampling_strategy="group_by_length",
        # Four times as fast as the unfused one on a CPU.
        optim="adamw_torch_fused",
        bf16=computes_in_bf16(device, settings.precision),
        use_cpu=device.type == "cpu",
        logging_steps=max(1, steps // 50),
        logging_nan_inf_filter=False,  # A loss that is no number has to be seen.
        eval_strategy="steps",
        eval_steps=math.ceil(steps / EVALUATIONS),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=device.type == "cuda",
        seed=settings.seed,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=tokenized["train"],
        eval_dataset=tokenized["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=_accuracy,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _steps(rows: int, settings: TrainingSettings) -> int:
    return settings.iterations or settings.epochs * math.ceil(rows / settings.batch_size)


def _accuracy(prediction: EvalPrediction) -> dict[str, float]:
    found = np.argmax(prediction.predictions, axis=-1)
    return {"accuracy": float(np.mean(found == prediction.label_ids))}
