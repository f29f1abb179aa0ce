"""What `make bench-gpu` measures: models, texts and load."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Of a tensor core's rate, small batches reach little.
BATCH = 64
COMPILED = "compiled"
"""The way that compiles the layers."""


@dataclass(frozen=True)
class Task:
    """A model and its texts."""

    key: str
    """The name of its folder."""
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
        key="demo",
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
        key="bert-base",
        name="bert-base's size, reviews",
        row_filter="source=imdb",
        test_rows=100,
        rows=2_000,
        max_length=512,
        learning_rate=1e-4,
        samples={"trainer": 2048, "miniml": 16_384, COMPILED: 16_384},
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
