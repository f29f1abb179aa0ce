"""`docs/benchmarks.md` and its chart, out of a run's figures and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
TITLES = {
    "a": "(a) naive API",
    "b": "(b) inline KServe",
    "c": "(c) LitServe",
    "d": "(d) miniml",
}
COLOURS = {"a": "#8c8c8c", "b": "#c98500", "c": "#2f7fb5", "d": "#c2274b"}
INTRODUCTION = """# Benchmarks

Figures of one run on one machine each; what matters are the ratios within a run. The command under a heading measures
again and writes its section anew; those on other kinds of processor stay.
"""
# A section of the page, with what it is called and, where it has one, its kind of processor.
_SECTION = re.compile(
    r"<!-- (?P<name>[a-z-]+)(?: (?P<kind>[^>]+))? -->\n(?P<content>.*?)<!-- /(?P=name)(?: (?P=kind))? -->\n",
    re.DOTALL,
)
# What `aims_table` writes: the aim, what was reached, what was wanted, and whether that was met.
_AIM = re.compile(
    r"^\| (?P<aim>[^|]+) \| (?P<reached>[^|]+) \| (?P<wanted>[^|]+) \| (?:yes|\*\*no\*\*) \|$", re.M
)


def write_page(result: dict[str, Any]) -> None:
    """Puts the section and the chart in place of the last run's on this kind of processor."""
    kind = result["machine"]["kind"]
    _draw(result, DOCS / chart_of("serving", kind))
    put_section("serving", serving_section(result), kind)
    print(f"{PAGE.relative_to(DOCS.parent)} is written\n\n{_aims_table(result)}")


def chart_of(name: str, kind: str) -> str:
    """Returns the file name of a benchmark's chart for one kind of processor."""
    return f"benchmarks-{name}-{re.sub('[^a-z0-9]+', '-', kind).strip('-')}.svg"


def put_section(name: str, content: str, kind: str = "") -> None:
    """Writes a benchmark's own section of the page, in place of its last one; the others stay.

    Args:
        name: The benchmark's name.
        content: The section as Markdown.
        kind: The kind of processor, as `machine.kind` tells it, where each has a section of its own. A table before
            them then sets side by side what each has reached.
    """
    text = PAGE.read_text() if PAGE.exists() else INTRODUCTION
    text = _with_section(text, name, kind, content)
    PAGE.write_text(_with_table(text, name) if kind else text)


def side_by_side(text: str, name: str) -> str:
    """Returns a table, as Markdown, of the aims that a benchmark's sections in `text` tell of, one column each."""
    kinds = {
        kind: {aim["aim"]: aim for aim in _AIM.finditer(section["content"])}
        for (of, kind), section in _sections(text).items()
        if of == name and kind
    }
    wanted = {aim["aim"]: aim["wanted"] for aims in kinds.values() for aim in aims.values()}
    lines = [
        f"| {name}, by kind of processor | {' | '.join(kinds)} | wanted |",
        "|---|" + "---|" * (len(kinds) + 1),
    ]
    for aim, aimed_at in wanted.items():
        cells = [aims[aim]["reached"] if aim in aims else "—" for aims in kinds.values()]
        lines.append(f"| {aim} | {' | '.join(cells)} | {aimed_at} |")
    return "\n" + "\n".join(lines) + "\n" if wanted else ""


def _sections(text: str) -> dict[tuple[str, str], re.Match[str]]:
    """Returns the page's sections by name and kind of processor, which is "" where a section has none."""
    return {(found["name"], found["kind"] or ""): found for found in _SECTION.finditer(text)}


def _marked(title: str, content: str) -> str:
    return f"<!-- {title} -->\n{content}<!-- /{title} -->\n"


def _with_section(text: str, name: str, kind: str, content: str) -> str:
    """Returns `text` with the section in place of its last one, else after the other kinds', else at the end."""
    section = _marked(f"{name} {kind}".strip(), content)
    sections = _sections(text)
    if own := sections.get((name, kind)):
        return text[: own.start()] + section + text[own.end() :]
    ends = [found.end() for (of, _), found in sections.items() if of == name]
    end = max(ends, default=len(text))
    return f"{text[:end]}\n{section}{text[end:]}"


def _with_table(text: str, name: str) -> str:
    """Returns `text` with the table that sets a benchmark's kinds side by side, before its sections."""
    table = side_by_side(text, name)
    if not table:
        return text
    title = f"{name}-kinds"
    sections = _sections(text)
    if own := sections.get((title, "")):
        return text[: own.start()] + _marked(title, table) + text[own.end() :]
    begin = min(found.start() for (of, _), found in sections.items() if of == name)
    return f"{text[:begin]}{_marked(title, table)}\n{text[begin:]}"


def measured_on(result: dict[str, Any]) -> str:
    """The command, the machine and the libraries of a run, as the first lines of its section."""
    machine = result["machine"]
    return f"""`{result["command"]}`, {machine["date"]}, on {machine["processor"]}, {machine["cores"]} cores;
Python {machine["python"]}, {machine["versions"]}."""


def serving_section(result: dict[str, Any]) -> str:
    """What the run showed, as Markdown."""
    machine, texts, ceiling = result["machine"], result["texts"], result["ceiling"]
    starts = sorted(result["starts"])
    return f"""
## Serving, {machine["kind"]}

`{result["command"]}`, {machine["date"]}, on {machine["processor"]}; Python {machine["python"]}, {machine["versions"]}.
{texts["count"]:.0f} IMDB reviews, {texts["mean_tokens"]:.0f} tokens in the mean and {texts["longest"]:.0f} at most, one
in a request. Model, texts and threads are the same for all, caches are off, and the clients share the processors.

- **(a)** one synchronous FastAPI route around a `transformers` pipeline, in fp32, as the prototype was
- **(b)** a KServe predictor that tokenizes and predicts on the event loop, one request at a time, as KServe's Hugging
  Face server does
- **(c)** LitServe, which collects up to 16 requests for up to 10 ms, in bf16 where the processor has it
- **(d)** miniml, `--engine auto`, over V1
- **(e)** the ceiling: the engine that (d) chose ({ceiling["engine"]}) in a bare loop over the same texts, as many
  batches at a time as (d) runs

![requests a second and latencies by number of clients]({chart_of("serving", machine["kind"])})

{_closed_table(result)}

(e) reaches **{ceiling["rate"]:.1f}** texts/s ({_and(ceiling["rates"])} before and after (d)), and
{ceiling["single_p50_ms"]:.1f} ms (p50) for one text at a time.

Open loop: requests arrive at random times, whether or not the ones before are answered, and a latency counts from the
moment that a request was due.

{_open_table(result)}

{_aims_table(result)}

### The limit

A text takes {ceiling["flops_per_text"] / 1e9:.2f} GFLOP in matrix products (two for each weight of a linear layer and
token, and attention's). torch's products reach {ceiling["matrix_gflops"]["bfloat16"]:.0f} GFLOP/s in bf16 and
{ceiling["matrix_gflops"]["float32"]:.0f} in fp32 here; (e) runs at {ceiling["gflops"]:.0f}, which is
**{ceiling["share"]:.0%}** of the faster.

### The same answers

Compared with the plain `transformers` pipeline in fp32, on the same {texts["count"]:.0f} reviews:

| | labels that agree | largest difference of a probability |
|---|---|---|
{_agreement_rows(result)}

### The start

From the start of (d)'s process until its model says that it is ready, engines measured and warmed:
{", ".join(f"{start:.1f}" for start in starts)} s. It decided from (ms, and the largest difference from torch-fp32):

```text
{ceiling["table"]}
```
"""


def _and(rates: list[float]) -> str:
    return " and ".join(f"{rate:.1f}" for rate in rates)


def _point(result: dict[str, Any], server: str, clients: int) -> dict[str, float]:
    found: dict[str, float] = next(
        point
        for point in result["points"]
        if (point["server"], point["loop"], point["load"]) == (server, "closed", clients)
    )
    return found


def _closed_table(result: dict[str, Any]) -> str:
    clients = sorted({int(point["load"]) for point in result["points"] if point["loop"] == "closed"})
    heads = "".join(f" {count} client{'s' * (count > 1)} |" for count in clients)
    lines = [f"| requests/s (p50, p99 in ms) |{heads}", "|---|" + "---|" * len(clients)]
    for server, title in TITLES.items():
        cells = [_point(result, server, count) for count in clients]
        row = "".join(
            f" **{cell['rate']:.1f}** ({cell['p50']:.0f}, {cell['p99']:.0f}){_trouble(cell)} |"
            for cell in cells
        )
        lines.append(f"| {title} |{row}")
    return "\n".join(lines)


def _open_table(result: dict[str, Any]) -> str:
    points = [point for point in result["points"] if point["loop"] == "open"]
    loads = sorted({point["load"] for point in points})
    heads = "".join(f" {load:.1f} arrivals/s |" for load in loads)
    lines = [f"| answers/s (p50, p99 in ms) |{heads}", "|---|" + "---|" * len(loads)]
    for server, title in TITLES.items():
        mine = {point["load"]: point for point in points if point["server"] == server}
        row = "".join(
            f" {mine[load]['rate']:.1f} ({mine[load]['p50']:.0f}, {mine[load]['p99']:.0f}){_trouble(mine[load])} |"
            for load in loads
        )
        lines.append(f"| {title} |{row}")
    return "\n".join(lines)


def _trouble(point: dict[str, float]) -> str:
    failures = [f"{point[kind]:.0f} {kind}" for kind in ("refused", "failed") if point[kind]]
    return f" {', '.join(failures)}" if failures else ""


def _agreement_rows(result: dict[str, Any]) -> str:
    return "\n".join(
        f"| {TITLES[server]} | {figures['labels']:.1%} | {figures['largest']:.4f} |"
        for server, figures in result["agreement"].items()
    )


def aims(result: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """What is to be reached, the figure, the aim, and whether it was."""
    ours, ceiling = {count: _point(result, "d", count) for count in (1, 16, 64)}, result["ceiling"]
    naive, inline, lit = (_point(result, server, 16) for server in "abc")
    to_naive, to_inline = ours[16]["rate"] / naive["rate"], ours[16]["rate"] / inline["rate"]
    latency = ours[1]["p50"] / _point(result, "a", 1)["p50"]
    to_ceiling = ours[64]["rate"] / ceiling["rate"]
    same, alive = result["agreement"]["d"], result["liveness_ms"]
    start = sorted(result["starts"])[len(result["starts"]) // 2]
    return [
        ("requests/s at 16 clients, (d) to (a)", f"{to_naive:.2f}", "≥ 4, better 6", to_naive >= 4),
        ("requests/s at 16 clients, (d) to (b)", f"{to_inline:.2f}", "≥ 2.5", to_inline >= 2.5),
        ("p50 with one client, (d) to (a)", f"1/{1 / latency:.1f}", "≤ 1/8", latency <= 1 / 8),
        ("requests/s at 64 clients, (d) to (e)", f"{to_ceiling:.2f}", "≥ 0.85", to_ceiling >= 0.85),
        (
            "p99 at 16 clients, (d) and (c), ms",
            f"{ours[16]['p99']:.0f} and {lit['p99']:.0f}",
            "no worse",
            ours[16]["p99"] <= lit["p99"],
        ),
        (
            "(d)'s labels that agree with transformers, and the largest difference of a probability",
            f"{same['labels']:.1%}, {same['largest']:.3f}",
            "≥ 99.5 %, ≤ 0.02",
            same["labels"] >= 0.995 and same["largest"] <= 0.02,
        ),
        ("(d)'s slowest liveness with 64 clients, ms", f"{alive:.0f}", "≤ 100", alive <= 100),
        ("process start to ready, s (median)", f"{start:.1f}", "≤ 6", start <= 6),
    ]


def aims_table(aims: list[tuple[str, str, str, bool]]) -> str:
    """What was to be reached and what was, as Markdown."""
    lines = ["| aim | reached | wanted | |", "|---|---|---|---|"]
    lines += [
        f"| {aim} | {figure} | {wanted} | {'yes' if met else '**no**'} |" for aim, figure, wanted, met in aims
    ]
    return "\n".join(lines)


def _aims_table(result: dict[str, Any]) -> str:
    lines = [aims_table(aims(result))]
    ceiling, naive = result["ceiling"], _point(result, "a", 1)["p50"]
    least = ceiling["flops_per_text"] / max(ceiling["matrix_gflops"].values()) / 1e6
    lines += [
        "",
        f"One client's p50 has a floor: at the full {max(ceiling['matrix_gflops'].values()):.0f} GFLOP/s the matrix "
        f"products of a mean text take {least:.1f} ms, and an eighth of (a)'s p50 is {naive / 8:.1f} ms.",
    ]
    return "\n".join(lines)


def _draw(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "miniml", "font.size": 10})
    from matplotlib import pyplot

    figure, (rates, latencies) = pyplot.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for server, title in TITLES.items():
        points = [p for p in result["points"] if (p["server"], p["loop"]) == (server, "closed")]
        clients = [point["load"] for point in points]
        style = {"color": COLOURS[server], "marker": "o", "markersize": 4}
        rates.plot(clients, [point["rate"] for point in points], label=title, **style)
        latencies.plot(clients, [point["p50"] for point in points], label=title, **style)
        latencies.plot(clients, [point["p99"] for point in points], linestyle=":", **style)
    rates.axhline(result["ceiling"]["rate"], color="#444444", linestyle="--", label="(e) ceiling")
    rates.set(title="requests a second", xlabel="clients", ylim=(0, None))
    latencies.set(title="latency, ms: p50, and dotted p99", xlabel="clients", yscale="log")
    for axes in (rates, latencies):
        axes.set_xscale("log", base=4)
        axes.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    rates.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
