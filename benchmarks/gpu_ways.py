"""Trains and serves in each of the ways that `make bench-gpu` measures: `python -m benchmarks.gpu_ways JOB`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from benchmarks.film_reviews import REVIEWS
from benchmarks.gpu_tasks import BATCH, COMPILED, Clients, Task
from benchmarks.load import Load
from benchmarks.serving import reviews, running, servers
from benchmarks.training import MINILM, SEED, accuracy
from miniml.data import prepared
from miniml.data.preparation import prepare
from miniml.model.classifier import Classifier, batches_of_like_length
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.sources.address import locate
from miniml.training.device import choose_device
from miniml.training.fine_tune import fine_tune
from miniml.training.gpu import flops_per_text, peak_flops
from serving import engine_records
from serving.engine_choice import AUTO, choose


def train_by_trainer(task: Task, model_id: Path, dataset: Path, folder: Path, device: torch.device) -> float:
    """Trains by transformers' Trainer with its defaults, but for the batch; returns the texts a second."""
    splits, summary = prepared.load(dataset, ("train",))
    tokenizer = AutoTokenizer.from_pretrained(model_id, model_max_length=task.max_length)
    torch.manual_seed(SEED)
    model = AutoModelForSequenceClassification.from_pretrained(model_id, num_labels=len(summary.labels))
    rows = splits["train"].map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
    arguments = TrainingArguments(
        output_dir=str(folder / "scratch"),
        per_device_train_batch_size=BATCH,
        learning_rate=task.learning_rate,
        max_steps=task.samples["trainer"] // BATCH,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type != "cpu",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=SEED,
    )
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer))
    trainer.remove_callback(PrinterCallback)
    rate: float = trainer.train().metrics["train_samples_per_second"]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return rate


def train_by_miniml(task: Task, way: str, model_id: Path, dataset: Path, folder: Path, device: str) -> float:
    """Trains by `fine_tune` with its defaults; returns the texts a second."""
    settings = TrainingSettings(
        model_id=str(model_id),
        device=device,
        batch_size=BATCH,
        learning_rate=task.learning_rate,
        iterations=task.samples[way] // BATCH,
        max_length=task.max_length,
        evaluations=1,
        compile_layers=way == COMPILED,
        checkpoints="none",
        seed=SEED,
    )
    return fine_tune(dataset, folder, settings).metrics["train_samples_per_second"]


def measure_here(task: Task, way: str, model_id: Path, dataset: Path, folder: Path, device: str) -> Any:
    """Trains one way in this process, and returns its figures."""
    chosen = choose_device(device)
    if way == "trainer":
        rate = train_by_trainer(task, model_id, dataset, folder, chosen)
    else:
        rate = train_by_miniml(task, way, model_id, dataset, folder, device)
    on_gpu = chosen.type == "cuda"
    return {
        "samples_per_second": rate,
        "utilization": utilization(rate, model_id, dataset, task.max_length, chosen),
        "peak_mib": torch.cuda.max_memory_allocated(chosen) / 2**20 if on_gpu else None,
        "accuracy": accuracy(folder, dataset) if task.pretrained else None,
    }


def utilization(
    rate: float, model_id: Path, dataset: Path, max_length: int, device: torch.device
) -> float | None:
    """Returns the share of the GPU's peak rate, reckoned for every way alike; None where that is not known."""
    peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    if peak is None:
        return None
    splits, _ = prepared.load(dataset, ("train",))
    tokenizer = AutoTokenizer.from_pretrained(model_id, model_max_length=max_length)
    encoded = tokenizer(list(splits["train"]["text"]), truncation=True)["input_ids"]
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig.from_pretrained(model_id))
    return flops_per_text(model, np.array([len(ids) for ids in encoded])) * rate / peak


def write_dataset(task: Task, folder: Path) -> None:
    """Writes the task's texts as transform does."""
    datasets.disable_progress_bars()
    settings = DataSettings(
        dataset_id=REVIEWS,
        row_filter=task.row_filter,
        label_names="negative,positive",
        max_rows=task.rows,
        train_test_split_ratio=task.test_rows / task.rows,
        seed=SEED,
    )
    prepare(settings, folder)


def pretrained_encoder() -> Path:
    """Returns the folder of MiniLM-L6."""
    return locate("model_id", MINILM).fetch().path


def write_encoder(folder: Path, *, tiny: bool) -> Path:
    """Writes an encoder of bert-base's size, or a tiny one, with random weights, for its speed alone."""
    tokenizer = AutoTokenizer.from_pretrained(pretrained_encoder())
    small: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(SEED)
    config = BertConfig(vocab_size=len(tokenizer), **(small if tiny else {}))
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def serve(model_dir: Path, clients: Clients, threads: int) -> dict[str, Any]:
    """Measures the engine in a bare loop, and the predictor under load."""
    texts = reviews(clients.texts)
    classifier = Classifier.load(model_dir)
    choice = choose(classifier, model_dir, AUTO, threads)
    # The server starts with what was measured, and measures nothing itself while it is under load.
    engine_records.write(choice.circumstances, choice.engines)
    encoded = choice.classifier.encode(texts)
    batches = list(batches_of_like_length([len(ids) for ids in encoded], 4096))
    seconds = 0.0
    for _ in ("warm", "measured"):
        began = time.perf_counter()
        for batch in batches:
            choice.classifier.run([encoded[row] for row in batch])
        seconds = time.perf_counter() - began
    ours = servers(classifier.labels)[-1]
    points = []
    with running(ours, model_dir, threads) as (url, started):
        load = Load(url + ours.path, ours.body, texts)
        for count in clients.counts:
            asyncio.run(load.closed(count, clients.seconds / 5))
            found = asyncio.run(load.closed(count, clients.seconds))
            points.append({"clients": count, "rate": found.rate, "p50_ms": found.percentile(50)})
            print(f"serving, {count:>2} clients {found.rate:24,.1f} texts/s", flush=True)
    return {
        "engine": choice.classifier.engine.name,
        "table": choice.measurements,
        "rate": len(texts) / seconds,
        "started": started,
        "points": points,
    }


def main(job: str) -> None:
    """Trains one way of one task, as `job` says in JSON, and prints its figures."""
    datasets.disable_progress_bars()
    said = json.loads(job)
    model_id, dataset, folder = (Path(said[name]) for name in ("model_id", "dataset", "folder"))
    task = Task(**said["task"])
    print(json.dumps(measure_here(task, said["way"], model_id, dataset, folder, said["device"])))


if __name__ == "__main__":
    main(sys.argv[1])
