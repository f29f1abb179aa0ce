"""The section of `docs/benchmarks.md` on ways to fine-tune, out of a run's figures and nothing else."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.page import DOCS, PAGE, measured_on, put_section

Values = npt.NDArray[np.float64]
RESAMPLES = 2000


def write_recipes_page(result: dict[str, Any]) -> None:
    """Puts the section in place of the last run's."""
    put_section("recipes", recipes_section(result), result["machine"]["kind"])
    print(f"{PAGE.relative_to(DOCS.parent)} is written\n\n{recipes_section(result)}")


def recipes_section(result: dict[str, Any]) -> str:
    """What the run showed, as Markdown."""
    seeds = len({point["seed"] for point in result["points"]})
    tables = "\n\n".join(
        f"{title[0].upper()}{title[1:]}, {_rows(result, half)}:\n\n{_table(result, half)}"
        for half, title in result["halves"].items()
        if _of(result, half)
    )
    return f"""
## Ways to fine-tune, {result["machine"]["kind"]}

{measured_on(result)}
MiniLM-L6, one pass over the training rows at a learning rate of 1e-4; {seeds} seeds, each with other test rows. The
recipes in bold are the default; what follows it is that and one thing more. A difference is that to the first line, on
the same rows with the same seed; its 95 % interval comes from drawing the test rows again, and tells nothing of what
other seeds would do. It is bold where it leaves 0 out. A recipe that shows fewer figures was tried with the first seeds
only.

{tables}
"""


def difference(one: Values, other: Values) -> tuple[float, float, float]:
    """By how much the mean of `one` is above that of `other`, row by row, and the 95 % interval of that."""
    differences = one - other
    rows = len(differences)
    draws = np.random.default_rng(0)
    means = [differences[draws.integers(rows, size=rows)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def _of(result: dict[str, Any], half: str, recipe: str = "") -> list[dict[str, Any]]:
    points = [one for one in result["points"] if one["half"] == half and recipe in ("", one["recipe"])]
    return sorted(points, key=lambda point: int(point["seed"]))


def _rows(result: dict[str, Any], half: str) -> str:
    points = _of(result, half, _of(result, half)[0]["recipe"])
    learnt = max(point["train_rows"] for point in points)
    return (
        f"{learnt:,} rows to learn from and {sum(len(point['right']) for point in points):,} to be tested on"
    )


def _table(result: dict[str, Any], half: str) -> str:
    lines = [
        "| recipe | accuracy: mean (each seed) | difference, points | log loss | difference |",
        "|---|---|---|---|---|",
    ]
    recipes = [name for name in result["titles"] if _of(result, half, name)]
    before = _of(result, half, recipes[0])
    for name in recipes:
        points = _of(result, half, name)
        usual = [point for point in before if point["seed"] in {one["seed"] for one in points}]
        shares = [fmean(point["right"]) for point in points]
        cells = [
            result["titles"][name],
            f"{fmean(shares):.3f} ({', '.join(f'{share:.3f}' for share in shares)})",
            "—",
            f"{fmean(_values(points, 'losses')):.3f}",
            "—",
        ]
        if name != recipes[0]:
            cells[2] = _with_interval(difference(_values(points, "right"), _values(usual, "right")), 100, 1)
            cells[4] = _with_interval(difference(_values(points, "losses"), _values(usual, "losses")), 1, 3)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _values(points: list[dict[str, Any]], name: str) -> Values:
    return np.concatenate([np.array(point[name], dtype=np.float64) for point in points])


def _with_interval(found: tuple[float, float, float], unit: int, digits: int) -> str:
    value, low, high = (unit * number for number in found)
    text = f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
    return f"**{text}**" if low > 0 or high < 0 else text
