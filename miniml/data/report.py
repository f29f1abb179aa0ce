"""Writes the data report, one HTML file: the rows read and written, and the findings of all checks."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from miniml import __version__
from miniml.data.encoding import Codes
from miniml.data.findings import CHECKS, Example, Findings
from miniml.data.label_scheme import scheme_of
from miniml.data.prepared import SPLITS, DatasetSummary
from miniml.data.report_request import ReportRequest
from miniml.data.texts import CLEANING
from miniml.data.tokens import Lengths
from miniml.reports.plots import ACCENT, INK, MUTED, SECOND, shortened, svg, template

_INVISIBLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

# The bars of more classes would be too thin to read. The largest are drawn, and the others counted.
MAX_CLASSES_DRAWN = 20


def write_report(
    summary: DatasetSummary, findings: Findings, lengths: Lengths, request: ReportRequest, labels: Codes
) -> None:
    """Writes the report.

    Args:
        summary: The summary of the dataset.
        findings: The findings of the checks, with examples.
        lengths: The lengths of a sample of the texts.
        request: The report to write.
        labels: The labels of all rows as the pool encodes them, of shape (rows,); a regression draws them.
    """
    drawn = min(len(summary.labels), MAX_CLASSES_DRAWN)
    kind, figure = scheme_of(summary.task).tile(summary)
    page = template("data.html").render(
        version=__version__,
        summary=summary,
        total=sum(summary.rows.values()),
        left_out=sum(summary.dropped.values()),
        lengths=lengths,
        model_id=request.model_id,
        kind=kind,
        figure=figure,
        classes=svg(lambda axes: _numbers(axes, labels), (7.0, 2.8))
        if summary.numbers
        else svg(lambda axes: _classes(axes, summary), (7.0, 1.0 + 0.5 * drawn)),
        classes_not_drawn=len(summary.labels) - drawn,
        histogram=svg(lambda axes: _histogram(axes, lengths), (7.0, 2.8)),
        checks=[_Check.of(check, summary, findings) for check in CHECKS],
        settings={name: value for name, value in summary.settings.items() if value != ""},
    )
    request.path.parent.mkdir(parents=True, exist_ok=True)
    request.path.write_text(page, encoding="utf-8")


@dataclass(frozen=True)
class _Part:
    """A part of a passage; `marked` if it differs from the passage beside it, or is at fault."""

    text: str
    marked: bool


@dataclass(frozen=True)
class _Check:
    """A line of the findings, and its examples."""

    words: str
    found: int
    left_out: int
    cleaned: int
    kept: int
    remedy: str
    """The argument that would repair the rows that were kept."""
    examples: list[tuple[Example, list[list[_Part]]]]

    @classmethod
    def of(cls, check: str, summary: DatasetSummary, findings: Findings) -> _Check:
        kept = summary.remaining(check)
        remedy = CLEANING[check][0] if check in CLEANING and kept else ""
        if check == "long" and kept:
            remedy = "drop_long_texts"
        return cls(
            CHECKS[check],
            summary.found.get(check, 0),
            summary.dropped.get(check, 0),
            summary.cleaned.get(check, 0),
            kept,
            remedy,
            [(example, _parts(example)) for example in findings.examples.get(check, [])],
        )


def _parts(example: Example) -> list[list[_Part]]:
    texts = [_visible(passage.text) for passage in example.passages]
    if len(texts) != 2:
        return [[_Part(text, False)] for text in texts]
    # Words and the space behind them, so that the parts put together are the text again.
    one, other = (re.findall(r"\S+\s*|\s+", text) for text in texts)
    sides: list[list[_Part]] = [[], []]
    for tag, a, b, c, d in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for side, words in zip(sides, (one[a:b], other[c:d]), strict=True):
            if words:
                side.append(_Part("".join(words), tag != "equal"))
    return sides


def _visible(text: str) -> str:
    """Replaces control characters by Unicode's control pictures, or by escapes if there is none."""
    return _INVISIBLE.sub(
        lambda found: chr(0x2400 + ord(found[0])) if found[0] < " " else f"\\x{ord(found[0]):02x}", text
    )


def _classes(axes: Axes, summary: DatasetSummary) -> None:
    counts = {
        label: sum(summary.rows_per_class[split][label] for split in SPLITS) for label in summary.labels
    }
    largest = sorted(summary.labels, key=lambda label: -counts[label])[:MAX_CLASSES_DRAWN]
    labels = [label for label in summary.labels if label in largest]
    positions = np.arange(len(labels))
    left = np.zeros(len(labels))
    for split, colour, alpha in zip(SPLITS, (ACCENT, SECOND, MUTED), (0.85, 0.85, 0.6), strict=True):
        rows = np.array([summary.rows_per_class[split][label] for label in labels])
        axes.barh(positions, rows, left=left, height=0.62, color=colour, alpha=alpha, label=split)
        left += rows
    for position, label in enumerate(labels):
        fraction = counts[label] / max(1, sum(summary.rows.values()))
        text = f"  {counts[label]:,} · {fraction:.1%}"
        axes.text(left[position], position, text, va="center", color=INK, fontsize=9)
    axes.set_yticks(positions, [shortened(label) for label in labels], color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max(left, default=1) * 1.25)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def _numbers(axes: Axes, values: Codes) -> None:
    axes.hist(values, bins=48, color=ACCENT, alpha=0.8)
    axes.axvline(float(values.mean()), color=SECOND, linewidth=2)
    axes.text(float(values.mean()), axes.get_ylim()[1], " mean", color=SECOND, va="top")
    axes.set_xlabel("label")
    axes.set_ylabel("texts")


def _histogram(axes: Axes, lengths: Lengths) -> None:
    values = lengths.all
    # The longest percent would press all others against the left edge.
    end = max(float(np.percentile(values, 99)) if len(values) else 1.0, lengths.max_length * 1.1)
    axes.hist(np.minimum(values, end), bins=48, range=(0, end), color=ACCENT, alpha=0.8)
    axes.axvline(lengths.max_length, color=SECOND, linewidth=2)
    top = axes.get_ylim()[1]
    axes.text(lengths.max_length, top, f" max_length {lengths.max_length}", color=INK, va="top")
    axes.set_xlim(0, end)
    axes.set_xlabel(f"{lengths.unit} of a text (the longest 1 % in the last bar)")
    axes.set_ylabel("texts")
