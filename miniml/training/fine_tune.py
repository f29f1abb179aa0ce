"""Fine-tunes a pretrained encoder for the task of a dataset, and signs the result."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoModelForSequenceClassification, TrainerCallback
from transformers.utils import logging as transformers_logging

from miniml import __version__
from miniml.data import prepared
from miniml.files.checksums import CHECKSUMS_NAME
from miniml.files.digests import digest_of
from miniml.files.folders import disk_errors_explained, require_replaceable, written_whole
from miniml.model import calibration, engines, manifest, probes, quick_start
from miniml.model.classifier import logits_of
from miniml.model.history import HISTORY_NAME
from miniml.model.learnt_texts import LearntTexts
from miniml.processor import threads_within_quota
from miniml.progress import logger
from miniml.settings.training import NO_CHECKPOINTS, TrainingSettings
from miniml.sources.pins import UNPINNED, Pins
from miniml.task import Task
from miniml.training import card
from miniml.training.batches import EncodedTexts, encode_split
from miniml.training.checkpoints import IDENTITY_NAME, checkpointing, key_of
from miniml.training.compilation import require_compiler
from miniml.training.course import Course, train
from miniml.training.device import choose_device
from miniml.training.export import export
from miniml.training.pretrained import Pretrained, find_pretrained
from miniml.training.processes import Processes
from miniml.training.targets import Target, target_of
from miniml.training.teacher import Teacher
from miniml.training.time_limit import TimeLimit
from miniml.training.tracking import RunDescription, tracked

__all__ = ["HISTORY_NAME", "TrainingResult", "choose_device", "find_pretrained", "fine_tune"]


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training."""

    digest: str
    """The digest of the model folder (see `miniml.model.manifest`)."""
    metrics: dict[str, float]
    """Metrics by name.

    Of the weights that were kept: `validation_loss` (neither weighted nor smoothed) and the task's metrics
    (`validation_accuracy` and `validation_macro_f1`, with one class a text), and `kept_step`, the step that they are
    from. Of the training: `train_loss`, `train_samples_per_second`, `train_seconds`, `steps`, `epochs`, `parameters`,
    `trained_parameters`, `texts_cut` (the fraction of texts that were truncated), and `temperature` where there are
    probabilities. On a GPU also `peak_gpu_mib` and `gpu_utilization` (see `miniml.training.gpu`).
    """


def fine_tune(
    dataset_dir: Path,
    model_dir: Path,
    settings: TrainingSettings,
    model_uri: str = "",
    *,
    minutes: float | None = None,
    watchers: Sequence[TrainerCallback] = (),
    pins: Pins = UNPINNED,
    search_digest: str = "",
    split: int = 1,
    teacher: Teacher | None = None,
) -> TrainingResult:
    """Trains on the split "train", watches "validation", never opens "test", and writes `model_dir`.

    A training that was killed continues from its last checkpoint, with the same result. Where the same training has
    ended within the last month, its model is copied.

    The folder holds safetensors, tokenizer, config, `calibration.json`, `training_history.json`,
    `learnt_texts.safetensors`, a model card and the signed `miniml.json`. Validation rows that the pretrained model was
    trained on, as far as miniml trained it, are left out.

    Where torchrun started several processes, each calls this; they share the batches, and the first one writes.

    Args:
        dataset_dir: The prepared dataset.
        model_dir: The folder to write.
        settings: The training's settings.
        model_uri: The address that the model will have, if it is known; in an S3 store checkpoints go beside it.
        minutes: The time limit, in place of the settings' own; that one still identifies the checkpoints.
        watchers: Further callbacks, which may end the training.
        pins: The commits or digests at which the pretrained model is read.
        search_digest: The digest of the search whose rules `watchers` follow; "" outside of a search.
        split: The number of parts in which each batch is computed, to take less memory. A step has as many texts.
        teacher: The model whose answers are learnt too, with the smaller model to begin with instead of `model_id`.

    Raises:
        InputError: the model cannot be used, `model_dir` holds something else, the training diverged, its time limit
            leaves no time for a step, or its processes cannot share the batches.
        HubError: the hub did not give the model.
        StoreError: the S3 store did not give the model.
        StorageError: there is no room for the model, or for a checkpoint.
        StoppedError: SIGTERM came. The last step is in a checkpoint.
    """
    require_replaceable(model_dir, manifest.OUTPUT_NAMES)
    limit = TimeLimit(settings.time_limit if minutes is None else minutes)
    processes = Processes.started()
    processes.share_of(settings)  # Refuses a batch that they cannot share before anything is fetched.
    device = choose_device(settings.device)
    if settings.compile_layers:
        require_compiler()
    processes.init_process_group(device)
    splits, summary = prepared.load(dataset_dir, ("train", "validation"))
    if teacher:
        folder, source = teacher.student, teacher.pretrained
    else:
        folder, source = find_pretrained(pins.of(settings.model_id), settings.from_scratch)
    learnt_before = _learnt_before(folder, summary.fingerprint, settings, teacher)
    splits["validation"] = learnt_before.unlearnt(splits["validation"], settings.model_id)
    _quiet_transformers()
    target = target_of(summary, splits["train"]["label"][:], settings)
    pretrained = Pretrained.load(folder, target.head, settings)
    # Only the first process hashes the pretrained files.
    taught_by = teacher.record if teacher else None
    key: str = processes.broadcast(
        key_of(folder, summary, settings, processes, taught_by) if processes.first else None
    )
    record: dict[str, Any] = {
        "data": {key: value for key, value in asdict(summary).items() if key != "settings"},
        "arguments": {"data": summary.settings, "training": asdict(settings), "pretrained": source},
        "versions": _versions(),
    }
    if teacher:
        record["arguments"]["distillation"] = taught_by
    identity = _identity(record, search_digest)
    with (
        tempfile.TemporaryDirectory(prefix="miniml-") as scratch,
        threads_within_quota(),
        checkpointing(key, settings, model_uri, processes) as checkpoints,
    ):
        finished = _copy_finished(checkpoints.finished(identity), model_dir) if processes.first else None
        [finished] = processes.broadcast([finished])
        if finished:
            return finished
        run = RunDescription.of(settings, key, summary)
        result = None
        with tracked(settings.log_to if processes.first else "", run) as trackers:
            encoded = _encode(splits, target, pretrained.tokenizer, Path(scratch))
            labels = encoded["train"].labels
            objective = target.objective(labels, settings)
            if teacher:
                objective = teacher.objective(target, labels, objective)
                encoded["train"] = encoded["train"].with_labels(teacher.taught(labels))
            course = train(
                pretrained,
                target,
                encoded,
                device,
                model_dir,
                checkpoints,
                [*trackers, *watchers],
                limit,
                settings,
                split,
                objective,
            )
            if processes.first:
                with written_whole(model_dir, manifest.OUTPUT_NAMES) as folder:
                    temperature = _save(folder, course, target, pretrained.tokenizer, encoded["validation"])
                    learnt_before.followed_by(splits["train"], splits["validation"]).write(folder)
                    metrics = dict(course.metrics)
                    if temperature is not None:
                        metrics["temperature"] = temperature
                    record["arguments"]["used"] = course.used
                    record["metrics"] = metrics
                    card.write(folder, manifest.Manifest(files={}, **record))
                    result = TrainingResult(manifest.sign(folder, **record).digest, metrics)
                for tracker in trackers:
                    tracker.finish(result.digest, metrics)
                logger.info(_summary_line(summary.task, result))
                if remark := calibration.remark_on(metrics.get("temperature", 1.0)):
                    logger.info(f"temperature {metrics['temperature']:.3g} is {remark}")
        if result:
            checkpoints.finish(model_dir, identity)
    return processes.broadcast(result)


def _identity(record: dict[str, Any], search_digest: str) -> str:
    """Returns a digest of what the manifest will say about the training, apart from where its checkpoints were."""
    arguments = record["arguments"]
    training = {**arguments["training"], "checkpoints": "", "checkpoint_interval": 0}
    return digest_of({**record, "arguments": {**arguments, "training": training}, "search": search_digest})


def _copy_finished(finished: Path | None, model_dir: Path) -> TrainingResult | None:
    """Copies the model in `finished` to `model_dir`, and returns its training's result; None where there is none."""
    if finished is None:
        return None
    with written_whole(model_dir, manifest.OUTPUT_NAMES) as folder:
        ours = shutil.ignore_patterns(CHECKSUMS_NAME, IDENTITY_NAME)
        shutil.copytree(finished, folder, dirs_exist_ok=True, ignore=ours)
    model = manifest.verify(model_dir)
    logger.info(
        f"this very training is finished already: its model is taken from {finished} (digest {model.digest[:12]}; "
        f"to train all the same, set checkpoints to {NO_CHECKPOINTS!r})"
    )
    return TrainingResult(model.digest, model.metrics)


def _learnt_before(
    folder: Path, fingerprint: str, settings: TrainingSettings, teacher: Teacher | None
) -> LearntTexts:
    if settings.from_scratch:  # The folder's weights are not used.
        return LearntTexts.nothing()
    if teacher:  # The student takes the full model's place: it learns and watches the same texts.
        return LearntTexts.read(folder).of_predecessors()
    return LearntTexts.of_pretrained(folder, settings.model_id, fingerprint)


def _summary_line(task: Task, result: TrainingResult) -> str:
    metrics = result.metrics
    parts = [
        f"validation {task.primary_metric.replace('_', ' ')} {metrics[f'validation_{task.primary_metric}']:.3f}",
        f"{metrics['train_samples_per_second']:.1f} samples/s",
        f"digest {result.digest[:12]}",
    ]
    if "temperature" in metrics:
        parts.insert(2, f"temperature {metrics['temperature']:.2f}")
    return f"trained: {', '.join(parts)}"


def _encode(
    splits: dict[str, datasets.Dataset], target: Target, tokenizer: Any, scratch: Path
) -> dict[str, EncodedTexts]:
    with disk_errors_explained(scratch):
        return {
            split: encode_split(dataset, target, tokenizer, scratch / split)
            for split, dataset in splits.items()
        }


def _save(
    folder: Path, course: Course, target: Target, tokenizer: Any, validation: EncodedTexts
) -> float | None:
    """Writes the model folder but for its signature; returns the temperature, None where there are no probabilities."""
    course.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # The saved model is loaded, because accelerate leaves its autocast around the trained one.
    saved = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    export(saved.eval(), folder)
    engine = engines.TorchEngine(engines.REFERENCE, saved)
    probes.write(folder, engine, validation.first(probes.CANDIDATES), target.head.margin)
    (folder / HISTORY_NAME).write_text(json.dumps(course.points, indent=1) + "\n", encoding="utf-8")
    # Logits are computed as evaluation and serving will compute them.
    texts = validation.first(calibration.CALIBRATION_ROWS)
    logits = logits_of(engine, tokenizer, target.head.width, texts)
    temperature = target.temperature(logits, validation.labels[: len(texts)])
    if temperature is not None:
        calibration.write(folder, temperature, len(texts))
    quick_start.write(folder, engine, target.head)
    return temperature


def _quiet_transformers() -> None:
    """Turns off the progress bars and load reports of transformers; the stage logs what matters of them."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _versions() -> dict[str, str]:
    packages = ["torch", "transformers", "tokenizers", "datasets"]
    if find_spec("openvino"):
        packages.append("openvino")
    return {
        "python": platform.python_version(),
        "miniml": __version__,
        **{name: version(name) for name in packages},
    }
