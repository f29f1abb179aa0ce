"""`docs/benchmarks.md` and its chart, out of a run's figures and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
TITLES = {
    "a": "(a) naive API",
    "b": "(b) inline KServe",
    "c": "(c) LitServe",
    "d": "(d) miniml",
    "f": "(f) miniml, smaller",
}
COLOURS = {"a": "#8c8c8c", "b": "#c98500", "c": "#2f7fb5", "d": "#c2274b", "f": "#7a3fb0"}
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
    return f"benchmarks-{name}-{slug(kind)}.svg"


def slug(kind: str) -> str:
    """Returns a kind of processor as a part of a file name."""
    return re.sub("[^a-z0-9]+", "-", kind).strip("-")


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
    smaller = result["smaller"]
    made = (
        "which --smaller gave" if smaller["given"] else "whose answers are worth nothing, for its speed alone"
    )
    return f"""
## Serving, {machine["kind"]}

`{result["command"]}`, {machine["date"]}, on {machine["processor"]}; Python {machine["python"]}, {machine["versions"]}.
{texts["count"]:.0f} IMDB reviews, {texts["mean_tokens"]:.0f} tokens in the mean and {texts["longest"]:.0f} at most, one
in a request. Texts and threads are the same for all, caches are off, and the clients share the processors. All servers
run from the first of {result["rounds"]} rounds to the last and are loaded in turn. Figures are the rounds' medians, and
a ratio is the median of the rounds' ratios.{_cap(machine["kind"])}

- **(a)** one synchronous FastAPI route around a `transformers` pipeline, in fp32, as the prototype was
- **(b)** a KServe predictor that tokenizes and predicts on the event loop, one request at a time, as KServe's Hugging
  Face server does
- **(c)** LitServe, which collects up to 16 requests for up to 10 ms, in bf16 where the processor has it
- **(d)** miniml, `--engine auto`, over V1
- **(e)** the ceiling: the engine that (d) chose ({ceiling["engine"]}) in a bare loop over the same texts, as many
  batches at a time as (d) runs
- **(f)** miniml with a smaller model, {smaller["layers"]} of {smaller["of"]} layers, {made};
  how accurate a distilled one is, [`compress`](how-to/smaller-model.md) tells

![requests a second and latencies by number of clients]({chart_of("serving", machine["kind"])})

{_closed_table(result)}

(e) reaches **{ceiling["rate"]:.1f}** texts/s ({_and(ceiling["rates"])} in the rounds), and
{ceiling["single_p50_ms"]:.1f} ms (p50) for one text at a time.

Open loop: requests arrive at random times, whether or not the ones before are answered, and a latency counts from the
moment that a request was due.

{_open_table(result)}

{_aims_table(result)}

### The limit

A text takes {ceiling["flops_per_text"] / 1e9:.2f} GFLOP in matrix products (two for each weight of a linear layer and
token, and attention's; of the last layer, all but keys and values for the first token alone). torch's
products reach {ceiling["matrix_gflops"]["bfloat16"]:.0f} GFLOP/s in bf16 and
{ceiling["matrix_gflops"]["float32"]:.0f} in fp32 here; (e) runs at {ceiling["gflops"]:.0f}, which is
**{ceiling["share"]:.0%}** of the faster.

The engines, in ms, and how far they are from torch-fp32 at most:

```text
{ceiling["table"]}
```
{_answers(result)}{_starts(result)}"""


def _answers(result: dict[str, Any]) -> str:
    """Returns the section on the servers' answers; "" where none were compared."""
    if "agreement" not in result:
        return ""
    return f"""
### The same answers

Compared with the plain `transformers` pipeline in fp32, on the same {result["compared"]:.0f} reviews:

| | labels that agree | largest difference of a probability |
|---|---|---|
{_agreement_rows(result)}
"""


def _starts(result: dict[str, Any]) -> str:
    """Returns the section on the start of miniml; "" where none was timed."""
    if "starts" not in result:
        return ""
    return f"""
### The start

From the start of (d)'s process until its model says that it is ready, with nothing else running:
{", ".join(f"{start:.1f}" for start in sorted(result["starts"]))} s.
"""


def _cap(kind: str) -> str:
    """Returns a sentence that says how this kind of processor was had, where it is not the machine's own."""
    if "capped" not in kind:
        return ""
    return """
`ONEDNN_MAX_CPU_ISA` and `ATEN_CPU_CAPABILITY` limit a larger processor to these features: its caches and its memory
stay its own."""


def _and(rates: list[float]) -> str:
    *others, last = [f"{rate:.1f}" for rate in rates]
    return f"{', '.join(others)} and {last}" if others else last


def _rounds(result: dict[str, Any], server: str, load: float, loop: str = "closed") -> list[dict[str, float]]:
    """Returns one server's points under one load, a round after the other."""
    return [
        point
        for point in result["points"]
        if (point["server"], point["loop"], point["load"]) == (server, loop, load)
    ]


def _point(result: dict[str, Any], server: str, load: float, loop: str = "closed") -> dict[str, float]:
    """Returns the rounds' medians, and the number of all requests that were refused or failed."""
    rounds = _rounds(result, server, load, loop)
    medians = {name: median(point[name] for point in rounds) for name in ("rate", "p50", "p95", "p99")}
    return medians | {name: sum(point[name] for point in rounds) for name in ("refused", "failed")}


def _ratio(result: dict[str, Any], figure: str, one: str, other: str, clients: int) -> float:
    """Returns the median of the rounds' ratios of one server's figure to another's."""
    pairs = zip(_rounds(result, one, clients), _rounds(result, other, clients), strict=True)
    return median(ours[figure] / theirs[figure] for ours, theirs in pairs)


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
    loads = sorted({point["load"] for point in result["points"] if point["loop"] == "open"})
    heads = "".join(f" {load:.1f} arrivals/s |" for load in loads)
    lines = [f"| answers/s (p50, p99 in ms) |{heads}", "|---|" + "---|" * len(loads)]
    for server, title in TITLES.items():
        cells = [_point(result, server, load, "open") for load in loads]
        row = "".join(
            f" {cell['rate']:.1f} ({cell['p50']:.0f}, {cell['p99']:.0f}){_trouble(cell)} |" for cell in cells
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
    p99 = {server: _point(result, server, 16)["p99"] for server in "cd"}
    to_naive, to_inline = (_ratio(result, "rate", "d", other, 16) for other in "ab")
    latency = _ratio(result, "p50", "d", "a", 1)
    served = zip(_rounds(result, "d", 64), result["ceiling"]["rates"], strict=True)
    to_ceiling = median(point["rate"] / rate for point, rate in served)
    to_full, smaller_to_naive = _ratio(result, "rate", "f", "d", 64), _ratio(result, "rate", "f", "a", 16)
    alive = result["liveness_ms"]
    return [
        ("requests/s at 16 clients, (d) to (a)", f"{to_naive:.2f}", "≥ 4, better 6", to_naive >= 4),
        ("requests/s at 16 clients, (d) to (b)", f"{to_inline:.2f}", "≥ 2.5", to_inline >= 2.5),
        ("p50 with one client, (d) to (a)", f"1/{1 / latency:.1f}", "≤ 1/8", latency <= 1 / 8),
        ("requests/s at 64 clients, (d) to (e)", f"{to_ceiling:.2f}", "≥ 0.9", to_ceiling >= 0.9),
        ("requests/s at 64 clients, (f) to (d)", f"{to_full:.2f}", "≥ 2", to_full >= 2),
        ("requests/s at 16 clients, (f) to (a)", f"{smaller_to_naive:.2f}", "≥ 4", smaller_to_naive >= 4),
        (
            "p99 at 16 clients, (d) and (c), ms",
            f"{p99['d']:.0f} and {p99['c']:.0f}",
            "no worse",
            p99["d"] <= p99["c"],
        ),
        ("(d)'s slowest liveness with 64 clients, ms", f"{alive:.0f}", "≤ 100", alive <= 100),
        *_aims_of_other_parts(result),
    ]


def _aims_of_other_parts(result: dict[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Yields the aims of the answers and of the start, as far as they were measured."""
    if "agreement" in result:
        same = result["agreement"]["d"]
        yield (
            "(d)'s labels that agree with transformers, and the largest difference of a probability",
            f"{same['labels']:.1%}, {same['largest']:.3f}",
            "≥ 99.5 %, ≤ 0.02",
            same["labels"] >= 0.995 and same["largest"] <= 0.02,
        )
    if "starts" in result:
        start = median(result["starts"])
        yield ("process start to ready, s (median)", f"{start:.1f}", "≤ 6", start <= 6)


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
        clients = sorted({point["load"] for point in result["points"] if point["loop"] == "closed"})
        points = [_point(result, server, count) for count in clients]
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
