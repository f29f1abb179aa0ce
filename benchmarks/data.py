"""`make bench-data`: memory and rows a second of transform by size and form, and how many planted leaks it finds."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from benchmarks import results, reviews
from benchmarks.data_page import write_data_page
from benchmarks.machine import described, in_a_process, peak_mib
from miniml.data import preparation, prepared
from miniml.settings.data import DataSettings

# Yelp's reviews have 650,000 rows of training, five classes, and some 130 words in the mean.
SIZES = (10_000, 100_000, 650_000)
CLASSES = 5
LEAK_ROWS = 100_000
MODULE = "benchmarks.data"


@dataclass(frozen=True)
class Measured:
    """One run of transform, in a process of its own."""

    form: str
    rows: int
    seconds: float
    peak_mib: float
    """Of the whole process, the interpreter and its libraries included."""
    start_mib: float
    """The same, before the first row."""
    source_mib: float
    fingerprint: str


class Writer:
    """Makes up reviews out of a stock of sentences, whose words are as unequally frequent as a language's."""

    def __init__(self, seed: int, sentences: int = 200_000, vocabulary: int = 30_000) -> None:
        self._draw = random.Random(seed)
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = ["".join(self._draw.choices(letters, k=self._draw.randint(2, 9))) for _ in range(vocabulary)]
        weights = [1 / (rank + 10) for rank in range(vocabulary)]
        drawn = iter(self._draw.choices(words, weights, k=sentences * 20))
        self.words = words
        self._sentences = [
            " ".join(next(drawn) for _ in range(self._draw.randint(9, 20))).capitalize() + "."
            for _ in range(sentences)
        ]

    def review(self) -> str:
        return " ".join(self._draw.choices(self._sentences, k=self._draw.randint(4, 14)))

    def label(self) -> int:
        return self._draw.randrange(CLASSES)


def edits(words: list[str], draw: random.Random) -> dict[str, Callable[[str], str]]:
    """What people and machines do to a text when they copy it."""

    def changed(text: str, share: float, change: Callable[[str], str]) -> str:
        parts = text.split()
        for place in draw.sample(range(len(parts)), max(1, round(share * len(parts)))):
            parts[place] = change(parts[place])
        return " ".join(parts)

    def misspelt(word: str) -> str:
        return word[:1] + word[1:][::-1] + "x"

    return {
        "case and punctuation": lambda text: text.upper().replace(".", " !!"),
        "3 % of the words misspelt": lambda text: changed(text, 0.03, misspelt),
        "4 % of the words replaced": lambda text: changed(text, 0.04, lambda _: draw.choice(words)),
        "a sentence added": lambda text: f"{text} {' '.join(draw.choices(words, k=10))}.",
        "the last tenth cut off": lambda text: text[: int(0.9 * len(text))],
        "HTML between sentences": lambda text: text.replace(". ", ".<br /><br />", 2),
    }


def plant_leaks(folder: Path, rows: int, share: float = 0.01, seed: int = 7) -> dict[str, int]:
    """Writes train.parquet and test.parquet, with edited copies of test rows in training; how many of each edit.

    As many rows of training share half of their text with a test row, and are none: they have kind "half".
    """
    writer, draw = Writer(seed), random.Random(seed)
    test = [writer.review() for _ in range(rows // 5)]
    planted = edits(writer.words, draw)
    kinds: list[str] = []
    texts: list[str] = []
    for number in range(round(share * rows)):
        edit = list(planted)[number % len(planted)]
        kinds += [edit, "half"]
        texts.append(planted[edit](draw.choice(test)))
        half, other = draw.choice(test).split(), writer.review().split()
        texts.append(" ".join(half[: len(half) // 2] + other[len(other) // 2 :]))
    while len(texts) + len(test) < rows:
        kinds.append("own")
        texts.append(writer.review())
    for name, column, marks in (("train", texts, kinds), ("test", test, ["own"] * len(test))):
        labels = [writer.label() for _ in column]
        table = pa.table({"text": column, "label": labels, "kind": marks})
        pa.parquet.write_table(table, folder / f"{name}.parquet")
    return dict(Counter(kind for kind in kinds if kind in planted))


def find_leaks(source: Path, folder: Path, planted: dict[str, int]) -> dict[str, Any]:
    """Recall by edit and in all, and precision, of what transform takes out of training."""
    settings = DataSettings(dataset_id=str(source), slice_columns="kind", max_rows=0)
    summary = preparation.prepare(settings, folder)
    splits, _ = prepared.load(folder, ("train", "validation"))
    left = Counter(kind for split in splits.values() for kind in split["kind"])
    found = {kind: count - left[kind] for kind, count in planted.items()}
    # Two copies of one text under two labels are left out as conflicting.
    dropped = sum(summary.dropped.values())
    return {
        "recall_by_edit": {kind: found[kind] / count for kind, count in planted.items()},
        "recall": sum(found.values()) / sum(planted.values()),
        "precision": sum(found.values()) / max(1, dropped),
        "planted": sum(planted.values()),
        "dropped": dropped,
    }


def write_sources(folder: Path, sizes: tuple[int, ...]) -> None:
    """The same made-up reviews as CSV and as Parquet, in each size."""
    of, schema = reviews.stock(), reviews.FEATURES.arrow_schema
    for size in sizes:
        with (
            pa.csv.CSVWriter(folder / f"{size}.csv", schema) as as_csv,
            pa.parquet.ParquetWriter(folder / f"{size}.parquet", schema) as as_parquet,
        ):
            for batch in reviews.reviews(0, size, of):
                as_csv.write_batch(batch)
                as_parquet.write_batch(batch)


def _measure_here(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    start, begin = peak_mib(), time.perf_counter()
    measured = work()
    return {**measured, "seconds": time.perf_counter() - begin, "peak_mib": peak_mib(), "start_mib": start}


def measure_example(folder: Path, rows: dict[str, int]) -> list[dict[str, Any]]:
    """transform with every argument at its default, of a source of Yelp's size in each of the forms that it may have.

    The hub is a server on this machine, so that no network is measured: all that its libraries do is.
    """
    from tests.hub_server import HubServer  # Only here: it brings in torch.

    root = folder / "hub"
    reviews.write_hub(root, rows)
    forms: dict[str, Callable[[Path, Path], Path | str]] = {
        "hub, the first time": lambda root, folder: reviews.HUB_ID,
        "hub, from its cache": lambda root, folder: reviews.HUB_ID,
        "save_to_disk": reviews.write_saved,
        "CSV": reviews.write_csv,
        "Parquet shards": reviews.write_shards,
    }
    measured = []
    with HubServer(root) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "cache")}
        for form, write in forms.items():
            scratch = folder / "form"
            scratch.mkdir()
            words = ("--only", str(write(root, scratch)), "--into", str(folder / "out"), "--as-it-is")
            found = in_a_process(MODULE, *words, **environment)
            shutil.rmtree(scratch)
            point = Measured(form=form, rows=sum(rows.values()), source_mib=0, **found)
            measured.append(asdict(point))
            _print(point)
    for part in (root, folder / "cache"):
        shutil.rmtree(part)
    return measured


def _print(point: Measured) -> None:
    rate = point.rows / point.seconds
    print(
        f"{point.rows:>8,} rows, {point.form:<20} {rate:10,.0f} rows/s {point.peak_mib:8,.0f} MiB", flush=True
    )


def measure(sizes: tuple[int, ...], leak_rows: int, example_rows: dict[str, int]) -> dict[str, Any]:
    """One run over all sizes and both formats, the example in every form, then the planted leaks."""
    points = []
    with tempfile.TemporaryDirectory(prefix="miniml-") as name:
        folder = Path(name)
        print("making up reviews", flush=True)
        write_sources(folder, sizes)
        for size in sizes:
            for form in ("csv", "parquet"):
                source = folder / f"{size}.{form}"
                measured = in_a_process(MODULE, "--only", str(source), "--into", str(folder / "out"))
                point = Measured(
                    form=form, rows=size, source_mib=source.stat().st_size / (1 << 20), **measured
                )
                points.append(asdict(point))
                _print(point)
                source.unlink()
        print("making up the example", flush=True)
        example = measure_example(folder, example_rows)
        (folder / "leaky").mkdir()
        planted = plant_leaks(folder / "leaky", leak_rows)
        leaks = in_a_process(
            MODULE,
            "--only",
            str(folder / "leaky"),
            "--into",
            str(folder / "out"),
            "--planted",
            json.dumps(planted),
        )
    print(f"leaks: recall {leaks['recall']:.3f}, precision {leaks['precision']:.3f}", flush=True)
    return {
        "machine": described("pyarrow", "datasets", "numpy", "rensa", "ftfy"),
        "command": "make bench-data",
        "points": points,
        "example": example,
        "leaks": {**leaks, "rows": leak_rows},
    }


def main() -> int:
    """Measures, and writes the page's section."""
    parser = argparse.ArgumentParser("python -m benchmarks.data", description=__doc__)
    parser.add_argument("--render-only", action="store_true", help="write the page from the last result")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--as-it-is", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--planted", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.planted:
        print(
            json.dumps(_measure_here(lambda: find_leaks(Path(options.only), options.into, options.planted)))
        )
        return 0
    if options.only:
        settings = DataSettings(dataset_id=options.only)
        if not options.as_it_is:
            settings = replace(settings, max_rows=0, near_duplicates="off")
        measured = _measure_here(
            lambda: {"fingerprint": preparation.prepare(settings, options.into).fingerprint}
        )
        print(json.dumps(measured))
        return 0
    if not options.render_only:
        results.keep("data", measure(SIZES, LEAK_ROWS, reviews.ROWS))
    write_data_page(results.last("data"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
