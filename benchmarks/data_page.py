"""The section on transform in `docs/benchmarks.md`, and its chart, out of a run's figures and nothing else."""

from __future__ import annotations

from typing import Any

from benchmarks.page import DOCS, PAGE, aims_table, measured_on, put_section
from miniml.settings.data import DataSettings

CHART = "benchmarks-data.svg"
_COLOURS = {"csv": "#2f7fb5", "parquet": "#c2274b"}


def write_data_page(result: dict[str, Any]) -> None:
    """Puts the section and the chart in place of the last run's."""
    _draw(result)
    put_section("data", data_section(result))
    print(f"{PAGE.relative_to(DOCS.parent)} is written\n\n{aims_table(aims(result))}")


def data_section(result: dict[str, Any]) -> str:
    """What the run showed, as Markdown."""
    leaks, rows, taken = result["leaks"], result["example"][0]["rows"], f"{DataSettings().max_rows:,}"
    by_edit = "\n".join(f"| {edit} | {recall:.1%} |" for edit, recall in leaks["recall_by_edit"].items())
    return f"""
## Transform

{measured_on(result)}
Made-up reviews of 130 words in the mean, 5 classes, all rows; every size in a process of its own, from reading the
source to the written splits, with all checks but the one for near-duplicates. The memory is the
process's peak (maximum resident set), interpreter and libraries included.

![memory and rows a second by number of rows]({CHART})

{_sizes_table(result)}

### The example at its real size

{rows:,} reviews, of which {taken} are drawn, every argument at its default, the check for near-duplicates included.
The hub is a server on the same machine: no network is measured, but all that its libraries do, fetching and unpacking.

{_example_table(result)}

### Leaks

{leaks["rows"]:,} rows, a fifth of them the test; {leaks["planted"]:,} rows of training are edited copies of test rows,
and as many share half of their text with a test row, which is no leak. Transform took {leaks["dropped"]:,} rows out of
training: recall {leaks["recall"]:.3f}, precision {leaks["precision"]:.3f}, in {leaks["seconds"]:.0f} s for everything,
at a peak of {leaks["peak_mib"]:,.0f} MiB.

| edit | found |
|---|---|
{by_edit}

{aims_table(aims(result))}
"""


def _example_table(result: dict[str, Any]) -> str:
    lines = ["| source | seconds | rows/s | peak, MiB | before the first row, MiB |", "|---|---|---|---|---|"]
    lines += [
        f"| {point['form']} | {point['seconds']:.1f} | **{point['rows'] / point['seconds']:,.0f}** | "
        f"**{point['peak_mib']:,.0f}** | {point['start_mib']:,.0f} |"
        for point in result["example"]
    ]
    return "\n".join(lines)


def _sizes_table(result: dict[str, Any]) -> str:
    lines = [
        "| source | rows | file, MiB | seconds | rows/s | peak, MiB | before the first row, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {point['form']} | {point['rows']:,} | {point['source_mib']:,.0f} | {point['seconds']:.1f} | "
        f"**{point['rows'] / point['seconds']:,.0f}** | **{point['peak_mib']:,.0f}** | {point['start_mib']:,.0f} |"
        for point in result["points"]
    ]
    return "\n".join(lines)


def aims(result: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """What is to be reached, the figure, the aim, and whether it was."""
    leaks, most = result["leaks"], max(point["rows"] for point in result["points"])
    largest = [point for point in result["points"] if point["rows"] == most]
    peak = max(point["peak_mib"] for point in largest)
    slowest = min(point["rows"] / point["seconds"] for point in largest)
    example = result["example"]
    example_peak = max(point["peak_mib"] for point in example)
    example_slowest = min(point["rows"] / point["seconds"] for point in example)
    per_row = max(_bytes_per_row(result, form) for form in _COLOURS)
    return [
        (f"peak at {most:,} rows, MiB", f"{peak:,.0f}", "≤ 1,024", peak <= 1024),
        (f"rows/s at {most:,} rows", f"{slowest:,.0f}", "≥ 30,000", slowest >= 30_000),
        ("the example's peak in any form, MiB", f"{example_peak:,.0f}", "≤ 1,024", example_peak <= 1024),
        (
            "the example's rows/s in any form",
            f"{example_slowest:,.0f}",
            "≥ 30,000",
            example_slowest >= 30_000,
        ),
        (
            "memory for each further row, bytes (a review has some 800)",
            f"{per_row:,.0f}",
            "≤ 200",
            per_row <= 200,
        ),
        ("leaks found", f"{leaks['recall']:.3f}", "≥ 0.95", leaks["recall"] >= 0.95),
        ("leak check, s in all", f"{leaks['seconds']:.0f}", "≤ 60", leaks["seconds"] <= 60),
        ("leak check's peak, MiB", f"{leaks['peak_mib']:,.0f}", "≤ 1,024", leaks["peak_mib"] <= 1024),
    ]


def _bytes_per_row(result: dict[str, Any], form: str) -> float:
    """From the second size to the last: below it, buffers that do not depend on the rows still fill."""
    points = sorted((p for p in result["points"] if p["form"] == form), key=lambda point: point["rows"])
    first, last = points[-2], points[-1]
    grown: float = (last["peak_mib"] - first["peak_mib"]) * (1 << 20) / (last["rows"] - first["rows"])
    return grown


def _draw(result: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "miniml", "font.size": 10})
    from matplotlib import pyplot

    figure, (memory, rates) = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for form, colour in _COLOURS.items():
        points = [point for point in result["points"] if point["form"] == form]
        rows = [point["rows"] for point in points]
        style = {"color": colour, "marker": "o", "markersize": 4, "label": form}
        memory.plot(rows, [point["peak_mib"] for point in points], **style)
        rates.plot(rows, [point["rows"] / point["seconds"] for point in points], **style)
    memory.axhline(1024, color="#444444", linestyle="--", label="1 GiB")
    rates.axhline(30_000, color="#444444", linestyle="--", label="30,000 rows/s")
    memory.set(title="peak memory, MiB", xlabel="rows", ylim=(0, None))
    rates.set(title="rows a second", xlabel="rows", ylim=(0, None))
    for axes in (memory, rates):
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(DOCS / CHART, metadata={"Date": None})
    pyplot.close(figure)
