"""The section on a GPU in `docs/benchmarks.md`, one for each kind of GPU, out of a run's figures and nothing else."""

from __future__ import annotations

from typing import Any

from benchmarks.page import DOCS, PAGE, aims_table, measured_on, put_section

TITLES = {
    "trainer": "(b) the Trainer's own",
    "miniml": "(c) miniml",
    "compiled": "(d) miniml with `compile_layers`",
}


def write_gpu_page(result: dict[str, Any]) -> None:
    """Puts the section of this kind of GPU in place of its last one."""
    put_section("gpu", gpu_section(result), result["device"])
    print(f"{PAGE.relative_to(DOCS.parent)} is written\n\n{aims_table(aims(result))}")


def gpu_section(result: dict[str, Any]) -> str:
    """What the run showed, as Markdown."""
    without = {"Left out for want of time": result["left_out"], "Failed": result["failed"]}
    left_out = "".join(f"\n{why}: {'; '.join(ways)}.\n" for why, ways in without.items() if ways)
    return f"""
## GPU: {result["device"]}

{measured_on(result)}
CUDA {result["cuda"]}; {result["seconds"]:,.0f} s in all.
Batches of {result["batch"]}, every way in a process of its own. The share is that of the GPU's peak rate in bf16, and
counts the model's operations on tokens alone, not on padding. bert-base's size has random weights, for its speed alone.

- **(b)** `transformers`' Trainer with its defaults, batches padded to their longest text
- **(c)** miniml with its defaults
- **(d)** the same with `compile_layers`

{_training_table(result)}
{left_out}
{_serving(result["serving"])}
{aims_table(aims(result))}
"""


def _training_table(result: dict[str, Any]) -> str:
    lines = [
        "| model and texts | way | texts | texts/s | to (b) | share of the peak | peak, MiB | held-out accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for point in result["points"]:
        lines.append(
            f"| {point['task']} | {TITLES[point['way']]} | {point['samples']:,} | "
            f"**{point['samples_per_second']:,.1f}** | {_ratio(result, point):.1f} × | "
            f"{_or_none(point['utilization'], '{:.0%}')} | {_or_none(point['peak_mib'], '{:,.0f}')} | "
            f"{'{:.3f} ({:.3f} to {:.3f})'.format(*point['accuracy']) if point['accuracy'] else '—'} |"
        )
    return "\n".join(lines)


def _or_none(value: float | None, form: str) -> str:
    return "—" if value is None else form.format(value)


def _ratio(result: dict[str, Any], point: dict[str, Any]) -> float:
    base = _point(result, point["task"], "trainer") or point
    ratio: float = point["samples_per_second"] / base["samples_per_second"]
    return ratio


def _point(result: dict[str, Any], task: str, way: str) -> dict[str, Any] | None:
    return next((p for p in result["points"] if (p["task"], p["way"]) == (task, way)), None)


def _serving(serving: dict[str, Any] | None) -> str:
    if serving is None:
        return ""
    points = "; ".join(
        f"{point['clients']} clients {point['rate']:,.1f}/s (p50 {point['p50_ms']:.1f} ms)"
        for point in serving["points"]
    )
    return f"""The predictor with the demo's model, over V1, ready after {serving["started"]:.1f} s: {points}.
{serving["engine"]} in a bare loop over the same reviews: {serving["rate"]:,.1f} texts/s. It was chosen from:

```text
{serving["table"]}
```
"""


def aims(result: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """What is to be reached, the figure, the aim, and whether it was; an aim without a figure is left out."""
    found = []
    for point in result["points"]:
        task, share = point["task"], point["utilization"]
        if point["way"] == "miniml" and share is not None and not point["accuracy"]:
            found.append(
                (f"{task}: (c)'s share of the peak rate in bf16", f"{share:.0%}", "≥ 40 %", share >= 0.4)
            )
        other = _point(result, task, "trainer")
        if point["way"] == "miniml" and point["accuracy"] and other:
            highest, theirs = point["accuracy"][2], other["accuracy"][0]
            title = f"{task}: the upper end of (c)'s accuracy, and (b)'s accuracy"
            found.append((title, f"{highest:.3f} and {theirs:.3f}", "no lower", highest >= theirs))
    return found
