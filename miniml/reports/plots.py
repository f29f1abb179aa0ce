"""Draws plots as SVG for the reports, in the colours of a light or dark page, and loads the reports' templates."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import jinja2
import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from miniml.escaping import clipped
from miniml.sources.address import short_name

# matplotlib needs fixed colours, but a page's colours are variables of its style sheet, which differ in dark mode. So
# plots are drawn in these placeholders, and the variables replace them in the SVG.
INK, MUTED, ACCENT, SECOND = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", ACCENT: "var(--accent)", SECOND: "var(--second)"}

_DIGEST = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-f]{64}|[0-9a-f]{40})(?![0-9A-Za-z])")

_STYLE: Any = {
    "svg.fonttype": "none",  # Text stays text: it scales, and can be searched and copied.
    "svg.hashsalt": "miniml",  # The same figures give the same file.
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}


def svg(paint: Callable[[Axes], None], size: tuple[float, float]) -> Markup:
    """Returns an SVG element.

    Args:
        paint: Draws the plot on the axes that it gets.
        size: Width and height in inches.
    """
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A label may be in any script. The browser's fonts draw it; matplotlib's only measure it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        paint(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    for placeholder, variable in _VARIABLES.items():
        drawn = drawn.replace(placeholder, variable)
    return Markup(drawn)  # noqa: S704 - matplotlib escapes the labels that it draws


def template(name: str) -> jinja2.Template:
    """Returns the template of that name in `templates/`; it escapes its values and fails if one is missing."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("miniml.reports"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"short_name": short_name, "digests_short": digests_short}
    return environment.get_template(name)


def digests_short(text: str) -> Markup:
    """Returns the text for a page, where digests and commits are shown shortened but copied whole."""
    return Markup(  # noqa: S704 - what is put between our tags is escaped
        _DIGEST.sub(r'<span class="digest" title="\g<0>">\g<0></span>', str(escape(text)))
    )


def shortened(label: str, longest: int = 24) -> str:
    """Returns a label for matplotlib, with dollar signs escaped, which would begin a formula.

    Args:
        label: The label.
        longest: The number of characters to show, at most.
    """
    text = clipped(label, longest)
    return text.replace("$", r"\$")
