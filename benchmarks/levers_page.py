"""The section of `docs/benchmarks.md` on what makes training fast, out of a run's figures and nothing else."""

from __future__ import annotations

from statistics import fmean, median
from typing import Any

from benchmarks.page import DOCS, PAGE, measured_on, put_section


def write_levers_page(result: dict[str, Any]) -> None:
    """Puts the section in place of the last run's."""
    put_section("levers", levers_section(result), result["machine"]["kind"])
    print(f"{PAGE.relative_to(DOCS.parent)} is written\n\n{_table(result)}")


def levers_section(result: dict[str, Any]) -> str:
    """What the run showed, as Markdown."""
    seeds = len({point["seed"] for point in result["points"]})
    return f"""
## What makes training fast, {result["machine"]["kind"]}

{measured_on(result)}
MiniLM-L6 on {result["samples"]:,} IMDB reviews, batches of {result["texts_in_step"]}; one thing at a time done
otherwise than by default, each with the same {seeds} seeds, or with the first where nothing but rounding changes. The
speed is the median.
Accuracy is of {result["test_rows"]:,} held-out reviews, where chance alone moves it by 0.02; the last column sets each
seed against the same seed by default.

{_table(result)}
"""


def _table(result: dict[str, Any]) -> str:
    lines = [
        "| otherwise | samples/s | to the default | peak, MiB | accuracy: mean (each seed) | to the default |",
        "|---|---|---|---|---|---|",
    ]
    default = _points(result, result["points"][0]["lever"])
    of_seed = {point["seed"]: point["accuracy"] for point in default}
    usual = median(point["samples_per_second"] for point in default)
    for name in dict.fromkeys(point["lever"] for point in result["points"]):
        points = _points(result, name)
        rate = median(point["samples_per_second"] for point in points)
        accuracies = [point["accuracy"] for point in points]
        differences = [point["accuracy"] - of_seed[point["seed"]] for point in points]
        lines.append(
            f"| {points[0]['title']} | **{rate:.1f}** | {rate / usual:.2f} × | "
            f"{max(point['peak_mib'] for point in points):,.0f} | "
            f"{fmean(accuracies):.3f} ({', '.join(f'{value:.3f}' for value in accuracies)}) | "
            + ("— |" if points == default else f"{fmean(differences):+.3f} ({_range(differences)}) |")
        )
    return "\n".join(lines)


def _points(result: dict[str, Any], lever: str) -> list[dict[str, Any]]:
    return sorted((p for p in result["points"] if p["lever"] == lever), key=lambda point: int(point["seed"]))


def _range(values: list[float]) -> str:
    return f"{min(values):+.3f} to {max(values):+.3f}"
