"""`make bench-gpu`: training beside the Trainer's own and serving, on a GPU, within 8 minutes.

With `--device cpu --quick` the same script runs on tiny models, to be tried where there is no GPU; it writes no page.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
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

from benchmarks import results
from benchmarks.gpu_page import gpu_section, write_gpu_page
from benchmarks.load import Load
from benchmarks.machine import described, in_a_process
from benchmarks.serving import reviews, running, servers
from benchmarks.training import MINILM, REVIEWS, SEED, accuracy
from miniml.data import prepared
from miniml.data.preparation import prepare
from miniml.errors import InputError
from miniml.model.classifier import Classifier, batches_of_like_length
from miniml.processor import name as processor_name
from miniml.processor import usable_processors
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.sources.address import locate
from miniml.training.device import choose_device
from miniml.training.fine_tune import fine_tune
from miniml.training.gpu import flops_per_text, peak_flops
from serving.engine_choice import AUTO, choose

MODULE = "benchmarks.gpu"
WAYS = ("trainer", "miniml", "compiled")
# Of a tensor core's rate, small batches reach little.
BATCH = 64


@dataclass(frozen=True)
class Task:
    """A model and its texts."""

    name: str
    row_filter: str
    test_rows: int
    rows: int
    """All rows, with those of the test."""
    max_length: int
    learning_rate: float
    samples: dict[str, int]
    """The texts that each way trains on, by its name: more for the faster, so that each takes some seconds."""
    pretrained: bool
    """Whether its accuracy tells anything."""


TASKS = (
    Task(
        name="the demo: MiniLM-L6, sentences",
        row_filter="source=rotten_tomatoes",
        test_rows=2000,
        rows=8_500,
        max_length=64,
        learning_rate=1.5e-4,
        samples={"trainer": 8192, "miniml": 8192},
        pretrained=True,
    ),
    Task(
        name="bert-base's size, reviews",
        row_filter="source=imdb",
        test_rows=100,
        rows=2_000,
        max_length=512,
        learning_rate=1e-4,
        samples={"trainer": 2048, "miniml": 16_384, "compiled": 16_384},
        pretrained=False,
    ),
)


def quick(task: Task) -> Task:
    """Returns the task so small that it tries the script, and measures nothing."""
    samples = dict.fromkeys(("trainer", "miniml"), 2 * BATCH)
    return replace(task, test_rows=60, rows=300, max_length=32, samples=samples)


@dataclass(frozen=True)
class Clients:
    """The load that the predictor is measured under."""

    counts: tuple[int, ...] = (1, 16, 64)
    seconds: float = 5.0
    texts: int = 1000


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
        compile_layers=way == "compiled",
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


def write_encoder(folder: Path, *, tiny: bool) -> Path:
    """Writes an encoder of bert-base's size, or a tiny one, with random weights, for its speed alone."""
    tokenizer = AutoTokenizer.from_pretrained(locate("model_id", MINILM).fetch().path)
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


def measure(device: str, tasks: tuple[Task, ...], clients: Clients, minutes: float, tiny: bool) -> Any:
    """Measures every way of every task, each in a process of its own, and then serving, while there is time."""
    datasets.disable_progress_bars()
    chosen, began = choose_device(device), time.monotonic()
    points, left_out, served = [], [], None
    with tempfile.TemporaryDirectory(prefix="miniml-") as name:
        scratch = Path(name)
        random = write_encoder(scratch / "random", tiny=tiny)
        pretrained = random if tiny else locate("model_id", MINILM).fetch().path
        for number, task in enumerate(tasks):
            dataset = scratch / f"dataset-{number}"
            prepare(_data_of(task), dataset)
            for way in task.samples:
                if time.monotonic() - began > 0.75 * 60 * minutes:
                    left_out.append(f"{task.name}, {way}")
                    continue
                folder = scratch / f"model-{number}-{way}"
                model_id = pretrained if task.pretrained else random
                job = {"task": asdict(task), "way": way, "device": device, "model_id": str(model_id)}
                job |= {"dataset": str(dataset), "folder": str(folder)}
                figures = in_a_process(MODULE, "--job", json.dumps(job))
                points.append({"task": task.name, "way": way, "samples": task.samples[way], **figures})
                rate = figures["samples_per_second"]
                print(f"{task.name:<32} {way:<10} {rate:10,.1f} texts/s", flush=True)
        if time.monotonic() - began > 0.85 * 60 * minutes:
            left_out.append("serving")
        else:
            threads = usable_processors(torch.get_num_threads())
            served = serve(scratch / "model-0-miniml", clients, threads)
    return {
        "machine": described("torch", "transformers", "accelerate"),
        "device": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else processor_name(),
        "cuda": torch.version.cuda,
        "command": "make bench-gpu",
        "batch": BATCH,
        "seconds": time.monotonic() - began,
        "points": points,
        "serving": served,
        "left_out": left_out,
    }


def _data_of(task: Task) -> DataSettings:
    return DataSettings(
        dataset_id=REVIEWS,
        row_filter=task.row_filter,
        label_names="negative,positive",
        max_rows=task.rows,
        train_test_split_ratio=task.test_rows / task.rows,
        seed=SEED,
    )


def main() -> int:
    """Measures, and writes the section of this GPU; returns 1 where there is none."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="the device: cuda, cuda:1, or cpu with --quick")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which what is left is left out")
    parser.add_argument("--quick", action="store_true", help="try the script on tiny models; writes no page")
    parser.add_argument("--render-only", action="store_true", help="write the page from the last result")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if job := options.job:
        model_id, dataset, folder = (Path(job[name]) for name in ("model_id", "dataset", "folder"))
        figures = measure_here(Task(**job["task"]), job["way"], model_id, dataset, folder, job["device"])
        print(json.dumps(figures))
        return 0
    if options.render_only:
        write_gpu_page(results.last("gpu"))
        return 0
    try:
        choose_device(options.device)
    except InputError as error:
        print(
            f"error: {error} This benchmark measures a GPU; --device cpu --quick tries it.", file=sys.stderr
        )
        return 1
    if options.quick:
        found = measure(
            options.device, (quick(TASKS[0]),), Clients((1, 4), 0.5, 40), options.minutes, tiny=True
        )
        print(gpu_section(found))
        return 0
    results.keep("gpu", measure(options.device, TASKS, Clients(), options.minutes, tiny=False))
    write_gpu_page(results.last("gpu"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
