"""Fine-tunes a pretrained encoder into a text classifier, and signs the result."""

from __future__ import annotations

import json
import platform
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, Trainer
from transformers.utils import logging as transformers_logging

from miniml import __version__, calibration, data, engines, manifest, probes
from miniml.classifier import logits_of
from miniml.folders import require_room, written_whole
from miniml.progress import note
from miniml.settings import TrainingSettings
from miniml.training.batches import tokenize
from miniml.training.device import choose_device
from miniml.training.history import History
from miniml.training.pretrained import find_pretrained, freeze, load
from miniml.training.trainer import EVALUATIONS, make_trainer

__all__ = ["EVALUATIONS", "HISTORY_NAME", "TrainingResult", "choose_device", "find_pretrained", "fine_tune"]

HISTORY_NAME = "training_history.json"
# Four of the weights as they are trained, four of their export: in float16 it would serve them less exactly.
BYTES_PER_PARAMETER = 8


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training."""

    digest: str
    """Of the model folder (see `miniml.manifest`)."""
    metrics: dict[str, float]
    """`train_loss`, `validation_accuracy`, `validation_loss`, `train_samples_per_second`, `steps`."""


def fine_tune(dataset_dir: Path, model_dir: Path, settings: TrainingSettings) -> TrainingResult:
    """Trains on the split "train", watches "validation", never opens "test", and writes `model_dir`.

    The folder holds safetensors, tokenizer, config, `calibration.json`, `training_history.json` and the signed
    `miniml.json`.

    Raises:
        InputError: the model cannot be used, or the training diverged.
        HubError: the hub did not give the model.
        StoreError: the S3 store did not give the model.
        StorageError: there is no room for the model.
    """
    device = choose_device(settings.device)
    pretrained, source = find_pretrained(settings.model_id)
    splits, summary = data.load(dataset_dir, ("train", "validation"))
    _quiet_transformers()
    torch.manual_seed(settings.seed)  # The new head's weights are drawn when the model is made.
    tokenizer, model = load(pretrained, summary.labels, settings)
    freeze(model, settings)
    require_room(model_dir, int(model.num_parameters() * BYTES_PER_PARAMETER * 1.2), "saving the model")
    tokenized = tokenize(splits, tokenizer)
    history = History()
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        trainer = make_trainer(model, tokenizer, tokenized, device, Path(scratch), settings)
        trainer.add_callback(history)
        note(_plan(trainer, device, settings))
        trainer.train()
    metrics = history.metrics()
    with written_whole(model_dir) as folder:
        model.float().to("cpu").save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        # What was saved, not what was trained: accelerate leaves its autocast around the latter.
        saved = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        engines.export(saved.eval(), folder)
        engine = engines.TorchEngine(engines.REFERENCE, saved)
        probes.write(folder, engine, tokenized["validation"]["input_ids"])
        temperature = _calibrate(folder, engine, tokenizer, summary.labels, tokenized["validation"])
        (folder / HISTORY_NAME).write_text(json.dumps(history.points, indent=1) + "\n", encoding="utf-8")
        signed = manifest.sign(
            folder,
            data={key: value for key, value in asdict(summary).items() if key != "settings"},
            arguments={"data": summary.settings, "training": asdict(settings), "pretrained": source},
            versions=_versions(),
            metrics=metrics,
        )
    note(
        f"trained: validation accuracy {metrics['validation_accuracy']:.3f}, "
        f"{metrics['train_samples_per_second']:.1f} samples/s, temperature {temperature:.2f}, "
        f"digest {signed.digest[:12]}"
    )
    return TrainingResult(signed.digest, metrics)


def _calibrate(
    folder: Path, engine: engines.Engine, tokenizer: Any, labels: list[str], validation: datasets.Dataset
) -> float:
    """Fits the temperature on validation, as evaluation and serving will run the model, and keeps it in `folder`."""
    rows = validation.select(range(min(len(validation), calibration.CALIBRATION_ROWS)))
    logits = logits_of(engine, tokenizer, len(labels), [np.array(ids) for ids in rows["input_ids"]])
    temperature = calibration.fit_temperature(logits, rows["label"])
    calibration.write(folder, temperature, len(rows))
    return temperature


def _quiet_transformers() -> None:
    """Its bars and load reports are not for a log; what matters of them is said in the stage's own lines."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _plan(trainer: Trainer, device: torch.device, settings: TrainingSettings) -> str:
    rows = len(trainer.train_dataset)  # type: ignore[arg-type]
    precision = "bf16" if trainer.args.bf16 else "fp32"
    return (
        f"training {settings.model_id} · {rows:,} rows, {trainer.args.max_steps:,} steps of {settings.batch_size} · "
        f"{device}, {precision}"
    )


def _versions() -> dict[str, str]:
    packages = ["torch", "transformers", "tokenizers", "datasets"]
    if find_spec("openvino"):
        packages.append("openvino")
    return {
        "python": platform.python_version(),
        "miniml": __version__,
        **{name: version(name) for name in packages},
    }
