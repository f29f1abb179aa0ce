"""The README's example at its real size: 650,000 + 50,000 reviews, every argument at its default.

The reviews are made up (see `benchmarks/reviews.py`), once for all of these tests, and come from a server that answers
as the hub does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import reviews
from miniml.data import prepared
from tests import patience
from tests.command import ROOT
from tests.hub_server import HubServer, write_bert

MAX_MEMORY = 1024
"""MiB, of the process that prepares the data, interpreter and libraries included."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the hub has."""
    folder = tmp_path_factory.mktemp("hub")
    run("-m", "benchmarks.reviews", folder)
    stock = reviews.stock()
    write_bert(folder, words=stock.words[:4000], known=stock.opinions)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def hub(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which the libraries ask our server; what they fetched once they find in their cache."""
    cache = tmp_path_factory.mktemp("cache")
    with HubServer(root) as server:
        # A tiny model's steps are too short to share: threads that wait for each other take five times as long.
        yield {"HF_ENDPOINT": server.url, "HF_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    shutil.rmtree(cache)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone when the test is over: pytest keeps its own for a while, and these are large."""
    yield tmp_path / "room"
    shutil.rmtree(tmp_path / "room", ignore_errors=True)


def run(*words: str | Path, folder: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """What this Python prints, given `words`, in the folder."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PREPARE = """
import sys
from pathlib import Path
from benchmarks.machine import peak_mib
from miniml.data import preparation
from miniml.settings.data import DataSettings

preparation.prepare(DataSettings(dataset_id=sys.argv[1]), Path(sys.argv[2]))
print(peak_mib())
"""


def from_the_hub(root: Path, folder: Path) -> str:
    return reviews.HUB_ID


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("form", "classes", "own_test"),
    [
        (from_the_hub, reviews.STARS, True),
        (reviews.write_saved, reviews.STARS, True),
        (reviews.write_shards, tuple("01234"), True),
        (reviews.write_csv, tuple("01234"), False),
    ],
)
def test_a_thousand_rows_are_drawn_from_all_over_a_source_of_that_size_in_little_memory(
    form: Callable[[Path, Path], Path | str],
    classes: tuple[str, ...],
    own_test: bool,
    root: Path,
    hub: dict[str, str],
    room: Path,
) -> None:
    room.mkdir()
    output = run(
        "-c",
        PREPARE,
        form(root, room),
        room / "dataset",
        environment={**hub, "MINIML_PROGRESS_SECONDS": "0.1"},
    )
    splits, summary = prepared.load(room / "dataset")
    assert summary.rows_read == 700_000
    assert summary.dropped == {}
    assert summary.labels == list(classes)
    assert summary.rows == {"train": 720, "validation": 80, "test": 200}
    for split, rows in summary.rows.items():  # Every star in proportion, which is a fifth.
        assert summary.rows_per_class[split] == dict.fromkeys(classes, rows // 5)
    numbers = {
        split: np.array([reviews.number_of(text) for text in splits[split]["text"]]) for split in splits
    }
    trained = np.concatenate([numbers["train"], numbers["validation"]])
    end = 650_000 if own_test else 700_000
    if own_test:
        assert set(numbers["test"] // 50_000) == {13}
    # Of each tenth of the source some 80 rows; fewer than 40 come once in a million draws.
    assert min(Counter((trained * 10 // end).tolist()).values()) > 40
    assert len(set(trained // (end // 10))) == 10
    assert "miniml~ reading " in output
    assert "1,000 of 700,000 rows were drawn (max_rows=1000)" in output
    assert float(output.splitlines()[-1]) < MAX_MEMORY


@pytest.mark.timeout(1200)
def test_the_example_runs_from_its_one_command_to_the_served_answer(hub: dict[str, str], room: Path) -> None:
    room.mkdir()
    shown = run("-m", "miniml", "run", folder=room, environment=hub)
    summary: Any = json.loads((room / "local_outputs" / "latest" / "summary.json").read_text())
    assert "1,000 of 700,000 rows were drawn (max_rows=1000)" in shown
    assert "200 steps of 2" in shown
    assert (summary["train_rows"], summary["test_rows"]) == (720, 200)
    assert summary["verdict"] == "approved"
    answers = summary["predictions"]
    assert [answer["label"] in reviews.STARS for answer in answers] == [True, True]
    assert [list(answer["probabilities"]) for answer in answers] == [list(reviews.STARS)] * 2
