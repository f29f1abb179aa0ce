"""Pictures for pages that are one file each: SVG that follows the page into light and dark."""

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

# matplotlib wants fixed colours, a page that is light or dark wants variables: figures are drawn with
# these stand-ins, which then give way to the variables of the style sheet.
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
    """An SVG element of `size` inches, made by `paint`."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A label may be in any script: the browser's fonts draw it, matplotlib's only measure it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        paint(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    for stand_in, variable in _VARIABLES.items():
        drawn = drawn.replace(stand_in, variable)
    return Markup(drawn)  # noqa: S704 - matplotlib escapes the labels that it draws


def template(name: str) -> jinja2.Template:
    """The page of that name in `templates`; what is put into it is escaped, and nothing may be missing."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("miniml.reports"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"short_name": short_name, "digests_short": digests_short}
    return environment.get_template(name)


def digests_short(text: str) -> Markup:
    """The text for a page, where of every digest and commit only the beginning is seen; all of it is copied along."""
    return Markup(  # noqa: S704 - what is put between our tags is escaped
        _DIGEST.sub(r'<span class="digest" title="\g<0>">\g<0></span>', str(escape(text)))
    )


def shortened(label: str, longest: int = 24) -> str:
    """A label as matplotlib can draw it: a dollar sign would begin a formula there."""
    text = clipped(label, longest)
    return text.replace("$", r"\$")
