"""Fine-tunes a pretrained encoder into a text classifier, and signs the result."""

from __future__ import annotations

import json
import math
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
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging

from miniml import __version__, calibration, data, engines, hub, manifest, probes
from miniml.classifier import logits_of
from miniml.errors import InputError
from miniml.folders import require_room, written_whole
from miniml.processor import has_bf16
from miniml.progress import Progress, note
from miniml.settings import TrainingSettings
from miniml.sources import HubId, S3Address, locate

HISTORY_NAME = "training_history.json"
# Four of the weights as they are trained, four of their export: in float16 it would serve them less exactly.
BYTES_PER_PARAMETER = 8
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")

# Points of the validation curve; each costs a pass over the validation rows.
EVALUATIONS = 2

# The names under which the common encoders' configurations keep their dropout rates.
DROPOUT_NAMES = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "dropout",
    "attention_dropout",
    "seq_classif_dropout",
)


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
    tokenizer, model = _load(pretrained, summary.labels, settings)
    _freeze(model, settings)
    require_room(model_dir, int(model.num_parameters() * BYTES_PER_PARAMETER * 1.2), "saving the model")
    tokenized = _tokenize(splits, tokenizer)
    history = _History()
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        trainer = _trainer(model, tokenizer, tokenized, device, Path(scratch), settings)
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


def choose_device(device: str) -> torch.device:
    """The torch device of that name; "auto" takes the fastest there is.

    Raises:
        InputError: this machine has no such device.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.append("mps")
    available += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if device == "auto":
        device = available[-1]
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in available:
        raise InputError(
            f"device {device!r} is not on this machine; torch sees: {', '.join(available)}. Set device to one of them."
        )
    return torch.device(wanted)


def find_pretrained(model_id: str) -> tuple[Path, str]:
    """The folder of a pretrained model, fetched from the hub or an S3 store if it has to be.

    The second result is `model_id` again, with the digest of the content where it came from an S3 store.

    Raises:
        InputError: there is no such folder, or it holds no weights.
        HubError: the hub did not give it.
        StoreError: the S3 store did not give it.
    """
    source, told = locate("model_id", model_id), model_id
    if isinstance(source, HubId):
        folder = hub.fetch_model(source)
    elif isinstance(source, S3Address):
        from miniml import store  # Only here: a model from elsewhere needs no S3 client.

        fetched = store.cached("model_id", source)
        folder, told = fetched.path, fetched.source
    else:
        folder = source
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = f"it has: {', '.join(names[:8]) or 'nothing'}"
    if "config.json" not in names:
        raise InputError(
            f"model_id {model_id!r}: {folder} is no model folder, for it has no config.json; {found}. "
            f"Give a folder that save_pretrained wrote, or a hub id."
        )
    if not set(WEIGHTS) & set(names):
        raise InputError(
            f"model_id {model_id!r}: {folder} has no weights ({WEIGHTS[0]}); {found}. "
            f"Copy them there, or give a hub id."
        )
    return folder, told


def _quiet_transformers() -> None:
    """Its bars and load reports are not for a log; what matters of them is said in the stage's own lines."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _load(folder: Path, labels: list[str], settings: TrainingSettings) -> tuple[Any, Any]:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        config.num_labels = len(labels)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
        config.problem_type = "single_label_classification"
        for name in DROPOUT_NAMES:
            if hasattr(config, name):
                setattr(config, name, settings.dropout)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # A checkpoint with a head of other classes keeps its encoder and gets a new head.
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, local_files_only=True, ignore_mismatched_sizes=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"model_id {settings.model_id!r} does not load as a text classifier ({error}). "
            f"Give an encoder that transformers' AutoModelForSequenceClassification knows."
        ) from error
    if tokenizer.pad_token is None:  # Decoders are trained without padding.
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    tokenizer.truncation_side = settings.truncation_side
    tokenizer.model_max_length = _max_length(tokenizer, model, settings)
    return tokenizer, model


def _freeze(model: Any, settings: TrainingSettings) -> None:
    """Leaves the embeddings and the lowest `frozen_layers` encoder layers as they are."""
    if not settings.frozen_layers:
        return
    encoder = model.base_model
    # In every encoder of transformers the layers are the one long list of modules.
    lists = [part for part in encoder.modules() if isinstance(part, torch.nn.ModuleList)]
    layers = max(lists, key=len, default=torch.nn.ModuleList())
    if settings.frozen_layers > len(layers):
        raise InputError(
            f"frozen_layers is {settings.frozen_layers}, but {settings.model_id!r} has {len(layers)} layers. "
            f"Give at most that many."
        )
    for frozen in (encoder.get_input_embeddings(), *layers[: settings.frozen_layers]):
        frozen.requires_grad_(False)


def _max_length(tokenizer: Any, model: Any, settings: TrainingSettings) -> int:
    positions = getattr(model.config, "max_position_embeddings", None) or math.inf
    limit = min(tokenizer.model_max_length, positions)
    if settings.max_length > limit:
        note(f"max_length {settings.max_length} is more than the model takes: cutting at {limit:.0f} tokens")
    return int(min(settings.max_length, limit))


def _tokenize(splits: dict[str, datasets.Dataset], tokenizer: Any) -> dict[str, datasets.Dataset]:
    def encode(rows: dict[str, Any]) -> dict[str, Any]:
        encoded = tokenizer(rows["text"], truncation=True)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}

    return {
        split: table.map(encode, batched=True, remove_columns=["text"], keep_in_memory=True)
        for split, table in splits.items()
    }


def _trainer(
    model: Any,
    tokenizer: Any,
    tokenized: dict[str, datasets.Dataset],
    device: torch.device,
    scratch: Path,
    settings: TrainingSettings,
) -> Trainer:
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
        bf16=settings.precision == "bf16" or (settings.precision == "auto" and has_bf16(device)),
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


def _plan(trainer: Trainer, device: torch.device, settings: TrainingSettings) -> str:
    rows = len(trainer.train_dataset)  # type: ignore[arg-type]
    precision = "bf16" if trainer.args.bf16 else "fp32"
    return (
        f"training {settings.model_id} · {rows:,} rows, {trainer.args.max_steps:,} steps of {settings.batch_size} · "
        f"{device}, {precision}"
    )


class _History(TrainerCallback):
    """Keeps the curves, tells the progress, and stops where the loss is no number any more."""

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []
        self._progress: Progress | None = None
        self._loss = "loss —"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._progress = Progress("training", state.max_steps, "steps")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        assert self._progress is not None
        self._progress.report(state.global_step, self._loss)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        point = {name: float(value) for name, value in (logs or {}).items()}
        self.points.append({"step": float(state.global_step), **point})
        loss = point.get("loss")
        if loss is None:
            return
        self._loss = f"loss {loss:.3f}"
        if not math.isfinite(loss):
            raise InputError(
                f"the training diverged: the loss is {loss} at step {state.global_step}. "
                f"Lower learning_rate (now {args.learning_rate:g})."
            )

    def metrics(self) -> dict[str, float]:
        total = next(point for point in reversed(self.points) if "train_runtime" in point)
        validations = [point for point in self.points if "eval_accuracy" in point]
        in_validation = sum(point["eval_runtime"] for point in validations)
        samples = total["train_samples_per_second"] * total["train_runtime"]
        return {
            "train_loss": total["train_loss"],
            "validation_accuracy": validations[-1]["eval_accuracy"],
            "validation_loss": validations[-1]["eval_loss"],
            "train_samples_per_second": round(samples / (total["train_runtime"] - in_validation), 2),
            "steps": total["step"],
        }


def _versions() -> dict[str, str]:
    packages = ["torch", "transformers", "tokenizers", "datasets"]
    if find_spec("openvino"):
        packages.append("openvino")
    return {
        "python": platform.python_version(),
        "miniml": __version__,
        **{name: version(name) for name in packages},
    }
