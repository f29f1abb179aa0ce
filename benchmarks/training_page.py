"""The section on training in `docs/benchmarks.md`, and its chart, out of a run's figures and nothing else."""

from __future__ import annotations

from typing import Any

from benchmarks.page import DOCS, PAGE, aims_table, chart_of, measured_on, put_section

TITLES = {
    "prototype": "(a) the prototype's way",
    "trainer": "(b) the Trainer's own",
    "miniml": "(c) miniml",
}
_COLOURS = {"prototype": "#8c8c8c", "trainer": "#2f7fb5", "miniml": "#c2274b"}


def write_training_page(result: dict[str, Any]) -> None:
    """Puts the section and the chart in place of the last run's."""
    _draw(result)
    put_section("training", training_section(result), result["machine"]["kind"])
    print(f"{PAGE.relative_to(DOCS.parent)} is written\n\n{aims_table(aims(result))}")


def training_section(result: dict[str, Any]) -> str:
    """What the run showed, as Markdown."""
    rows = result["rows"]
    return f"""
## Training, {result["machine"]["kind"]}

{measured_on(result)}
IMDB reviews, cut to {result["max_length"]} tokens; every way sees as many of the same {rows["train"]:,}, in a process
of its own, and is asked about the same {rows["test"]:,} that none has seen. Samples a second are those of the training
itself, without loading, tokenizing, validation and saving; the memory is the process's peak.
MiniLM-L6 is pretrained; bert-base is a model of that size with random weights, for its speed alone.

- **(a)** the prototype's way: batches of 2, every text padded to {result["max_length"]}, fp32
- **(b)** `transformers`' Trainer with its defaults, batches of 16 padded to their longest text
- **(c)** miniml with its defaults, batches of 16

![samples a second by way and model]({chart_of("training", result["machine"]["kind"])})

{_table(result)}

{aims_table(aims(result))}
"""


def _table(result: dict[str, Any]) -> str:
    lines = [
        "| model | way | reviews | samples/s | to (a) | seconds in all | peak, MiB | held-out accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for point in result["points"]:
        ratio = point["samples_per_second"] / _rate(result, point["model"], "prototype")
        lines.append(
            f"| {point['model']} | {TITLES[point['way']]} | {point['samples']:,} | "
            f"**{point['samples_per_second']:.2f}** | {ratio:.1f} × | {point['seconds']:,.0f} | "
            f"{point['peak_mib']:,.0f} | {_with_interval(point['accuracy'])} |"
        )
    return "\n".join(lines)


def _with_interval(accuracy: list[float] | None) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*accuracy) if accuracy else "—"


def _rate(result: dict[str, Any], model: str, way: str) -> float:
    rate: float = _point(result, model, way)["samples_per_second"]
    return rate


def _point(result: dict[str, Any], model: str, way: str) -> dict[str, Any]:
    found: dict[str, Any] = next(p for p in result["points"] if (p["model"], p["way"]) == (model, way))
    return found


def aims(result: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """What is to be reached, the figure, the aim, and whether it was."""
    found = []
    for model in dict.fromkeys(point["model"] for point in result["points"]):
        ours = _rate(result, model, "miniml")
        for way, letter, least in (("prototype", "a", 8), ("trainer", "b", 2)):
            ratio = ours / _rate(result, model, way)
            found.append(
                (f"{model}: samples/s, (c) to ({letter})", f"{ratio:.1f}", f"≥ {least}", ratio >= least)
            )
        accuracies = {way: _point(result, model, way)["accuracy"] for way in TITLES}
        if accuracies["miniml"]:
            best, highest = (
                max(accuracies[way][0] for way in ("prototype", "trainer")),
                accuracies["miniml"][2],
            )
            found.append(
                (
                    f"{model}: the upper end of (c)'s accuracy, and the better of (a)'s and (b)'s",
                    f"{highest:.3f} and {best:.3f}",
                    "no lower",
                    highest >= best,
                )
            )
    return found


def _draw(result: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "miniml", "font.size": 10})
    from matplotlib import pyplot

    models = list(dict.fromkeys(point["model"] for point in result["points"]))
    figure, panels = pyplot.subplots(1, len(models), figsize=(10, 2.6), layout="constrained")
    for axes, model in zip(panels, models, strict=True):
        for way, title in TITLES.items():
            bars = axes.barh(title, _rate(result, model, way), color=_COLOURS[way], height=0.6)
            axes.bar_label(bars, fmt="{:.2f}", padding=4)
        axes.invert_yaxis()
        axes.set(title=f"{model}, samples a second", xlim=(0, 1.18 * _rate(result, model, "miniml")))
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(DOCS / chart_of("training", result["machine"]["kind"]), metadata={"Date": None})
    pyplot.close(figure)
