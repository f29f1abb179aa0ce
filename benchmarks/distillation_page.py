"""The section of `docs/benchmarks.md` on what fewer layers lose, out of a run's figures and nothing else."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.page import DOCS, PAGE, measured_on, put_section
from benchmarks.recipes_page import difference


def write_distillation_page(result: dict[str, Any]) -> None:
    """Puts the section in place of the last run's."""
    put_section("distillation", distillation_section(result))
    print(f"{PAGE.relative_to(DOCS.parent)} is written\n\n{distillation_section(result)}")


def distillation_section(result: dict[str, Any]) -> str:
    """Returns what the run showed, as Markdown."""
    tables = "\n\n".join(
        _table(half, [point for point in result["points"] if point["half"] == name])
        for name, half in result["halves"].items()
        if any(point["half"] == name for point in result["points"])
    )
    return f"""
## What fewer layers lose

{measured_on(result)}
MiniLM-L6, fine-tuned for one pass at a learning rate of 1e-4; then some of its layers, the first, the last and others
evenly between, taught the labels and the full model's answers for three, as `compress` does by default. Each seed has
other test rows. A difference is to the full model of the same seed, on the same rows; its 95 % interval comes from
drawing the test rows again, and tells nothing of what other seeds would do.

{tables}
"""


def _table(half: dict[str, Any], points: list[dict[str, Any]]) -> str:
    by_layers: dict[int, list[dict[str, Any]]] = {}
    for point in points:
        by_layers.setdefault(point["layers"], []).append(point)
    full = by_layers[max(by_layers)]
    rows = sum(len(point["right"]) for point in full)
    lines = [
        f"{half['title'][0].upper()}{half['title'][1:]}, {half['train_rows']:,} rows to learn from, {rows:,} to be "
        "tested on:",
        "",
        "| layers | accuracy: mean (each seed) | difference, points | answers as the full model's |",
        "|---|---|---|---|",
    ]
    for layers, models in by_layers.items():
        shares = [fmean(point["right"]) for point in models]
        lost = "—"
        if models is not full:
            value, low, high = difference(_right(models), _right(full))
            lost = f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        agreed = f"{100 * fmean(point['agreement'] for point in models):.1f} %"
        each = ", ".join(f"{share:.3f}" for share in shares)
        lines.append(f"| {layers} | {fmean(shares):.3f} ({each}) | {lost} | {agreed} |")
    return "\n".join(lines)


def _right(points: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    return np.concatenate([np.array(point["right"], dtype=np.float64) for point in points])
