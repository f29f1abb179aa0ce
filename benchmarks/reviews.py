"""Made-up reviews of Yelp's true size and shape, as the hub, a saved dataset, a CSV file and Parquet shards hold them.

Texts are put together by Arrow, many thousands at once, as one at a time would take minutes.

python -m benchmarks.reviews FOLDER     writes the hub's repository, in a process of its own, as it takes 0.5 GiB
"""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

HUB_ID = "Yelp/yelp_review_full"
STARS = ("1 star", "2 star", "3 stars", "4 stars", "5 stars")
"""As the hub's copy spells them."""
ROWS = {"train": 650_000, "test": 50_000}
FEATURES = datasets.Features(
    {"label": datasets.ClassLabel(names=list(STARS)), "text": datasets.Value("string")}
)
SHARDS = 8
SHARE_OF_OPINIONS = 0.2
"""Of sentences, those that only reviews of the same star have."""
_ROWS_AT_ONCE, _ROWS_READ = 50_000, 10_000
_PLAIN, _OPINIONS = 12_000, 1_000
_VOCABULARY, _OPINION_WORDS = 12_000, 40


@dataclass(frozen=True)
class Stock:
    """The sentences that reviews are made of, and their words."""

    sentences: pa.StringArray
    """First those of any review, then those of each star."""
    words: list[str]
    opinions: list[list[str]]
    """The words that only reviews of each star have."""


def stock(seed: int = 1) -> Stock:
    """Makes up words, as unequally frequent as a language's, and sentences of them."""
    draw = random.Random(seed)
    letters = "eeeetttaaaooinnsshrrdlucmfwypvbgk"
    coined = dict.fromkeys(
        "".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(2 * _VOCABULARY)
    )
    words, rest = list(coined)[:_VOCABULARY], list(coined)[_VOCABULARY:]
    opinions = [rest[star * _OPINION_WORDS : (star + 1) * _OPINION_WORDS] for star in range(len(STARS))]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    drawn = iter(draw.choices(words, weights, k=(_PLAIN + len(STARS) * _OPINIONS) * 20))

    def sentence(opinion: list[str]) -> str:
        parts = [next(drawn) for _ in range(draw.randint(9, 20))]
        for place in draw.sample(range(len(parts)), len(parts) // 2) if opinion else ():
            parts[place] = draw.choice(opinion)
        # Of every hundred sentences some have what the checks look at more closely.
        if (chance := draw.random()) < 0.004:
            parts.insert(2, "&")
        elif chance < 0.007:
            parts[1] = "café"
        parts[len(parts) // 2] += draw.choice([",", ",", "", '""', "!"])
        return " ".join(parts).capitalize() + draw.choice([".", ".", ".", "!", "...", ".\\n\\n"])

    sentences = [sentence([]) for _ in range(_PLAIN)]
    for opinion in opinions:
        sentences += [sentence(opinion) for _ in range(_OPINIONS)]
    return Stock(pa.array(sentences), words, opinions)


def reviews(first: int, rows: int, of: Stock) -> Iterator[pa.RecordBatch]:
    """So many reviews, every star as often, in random order; each says its number at its end, from `first` on."""
    generator = np.random.default_rng(first)
    for begin in range(first, first + rows, _ROWS_AT_ONCE):
        numbers = np.arange(begin, min(begin + _ROWS_AT_ONCE, first + rows))
        labels = generator.permutation(numbers % len(STARS))
        texts = pc.binary_join_element_wise(
            _texts(labels, of, generator), pa.array(numbers).cast(pa.string()), " Visit "
        )
        yield pa.record_batch([pa.array(labels), texts], schema=FEATURES.arrow_schema)


def number_of(text: str) -> int:
    """The number that a review ends with."""
    return int(text.rpartition(" ")[2])


def _texts(labels: np.ndarray[Any, Any], of: Stock, generator: np.random.Generator) -> pa.StringArray:
    # Many are short, and a few ten times as long as most, as people's are: 130 words in the mean.
    lengths = 2 + generator.gamma(1.2, 6.1, len(labels)).astype(np.int64)
    ends = lengths.cumsum()
    chosen = generator.integers(0, _PLAIN, ends[-1])
    opinion = generator.random(ends[-1]) < SHARE_OF_OPINIONS
    opinion[ends - lengths] = True
    own = _PLAIN + np.repeat(labels, lengths) * _OPINIONS + generator.integers(0, _OPINIONS, ends[-1])
    sentences = of.sentences.take(pa.array(np.where(opinion, own, chosen)))
    # One in five puts two spaces between sentences.
    spaces = pa.array(np.where(generator.random(len(labels)) < 0.2, "  ", " "))
    return pc.binary_join(
        pa.ListArray.from_arrays(pa.array(np.append(0, ends), pa.int32()), sentences), spaces
    )


def write_hub(root: Path, rows: dict[str, int] = ROWS) -> None:
    """The repository as the hub has it: a card and, for each split, a Parquet file of one row group, as by pandas."""
    _file(root, "train").parent.mkdir(parents=True)
    of, first = stock(), 0
    for split, count in rows.items():
        with pa.parquet.ParquetWriter(
            _file(root, split), FEATURES.arrow_schema, use_dictionary=["label"]
        ) as written:
            for batch in reviews(first, count, of):
                written.write_batch(batch)
        first += count
    (repository(root) / "README.md").write_text(card(rows))


def repository(root: Path) -> Path:
    """Where a hub that serves the folder `root` has it."""
    return root / "datasets" / HUB_ID


def card(rows: dict[str, int]) -> str:
    """A dataset card with what the hub's libraries read in it."""
    names = "".join(f"          '{number}': {name}\n" for number, name in enumerate(STARS))
    splits = "".join(
        f"  - name: {split}\n    num_bytes: {900 * count}\n    num_examples: {count}\n"
        for split, count in rows.items()
    )
    files = "".join(f"  - split: {split}\n    path: yelp_review_full/{split}-*\n" for split in rows)
    return f"""---
language:
- en
license: other
size_categories:
- 100K<n<1M
task_categories:
- text-classification
task_ids:
- sentiment-classification
pretty_name: YelpReviewFull
dataset_info:
  config_name: yelp_review_full
  features:
  - name: label
    dtype:
      class_label:
        names:
{names}  - name: text
    dtype: string
  splits:
{splits}  download_size: {600 * sum(rows.values())}
  dataset_size: {900 * sum(rows.values())}
configs:
- config_name: yelp_review_full
  default: true
  data_files:
{files}---
# Made-up reviews
"""


def _file(root: Path, split: str) -> Path:
    return repository(root) / "yelp_review_full" / f"{split}-00000-of-00001.parquet"


def _read(root: Path, split: str) -> Iterator[pa.RecordBatch]:
    with pa.parquet.ParquetFile(_file(root, split), buffer_size=4 << 20, pre_buffer=False) as opened:
        yield from opened.iter_batches(_ROWS_READ)


def write_csv(root: Path, folder: Path) -> Path:
    """All rows of the hub's repository in one CSV file."""
    file = folder / "reviews.csv"
    with pa.csv.CSVWriter(file, FEATURES.arrow_schema) as written:
        for split in ROWS:
            for batch in _read(root, split):
                written.write_batch(batch)
    return file


def write_shards(root: Path, folder: Path) -> Path:
    """The same in a folder of Parquet files, several of them training, without the names of the classes."""
    shards = folder / "shards"
    shards.mkdir()
    schema = pa.schema([pa.field("label", pa.int64()), pa.field("text", pa.string())])
    for split, parts in (("train", SHARDS), ("test", 1)):
        batches = _read(root, split)
        rows = pa.parquet.read_metadata(_file(root, split)).num_rows
        for number in range(parts):
            file = shards / f"{split}-{number:05d}-of-{parts:05d}.parquet"
            with pa.parquet.ParquetWriter(
                file, schema, use_dictionary=["label"], compression="lz4"
            ) as written:
                for batch in itertools.islice(batches, -(-rows // _ROWS_READ // parts)):
                    written.write_batch(batch.cast(schema))
    return shards


def write_saved(root: Path, folder: Path) -> Path:
    """The same as `save_to_disk` writes it."""
    saved = folder / "saved"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        splits = {}
        for split in ROWS:
            file = Path(scratch) / f"{split}.arrow"
            with (
                pa.OSFile(str(file), "wb") as opened,
                pa.ipc.new_stream(opened, FEATURES.arrow_schema) as written,
            ):
                for batch in _read(root, split):
                    written.write_batch(batch.cast(FEATURES.arrow_schema))
            splits[split] = datasets.Dataset.from_file(str(file))
        datasets.DatasetDict(splits).save_to_disk(str(saved))
    return saved


if __name__ == "__main__":
    write_hub(Path(sys.argv[1]))
