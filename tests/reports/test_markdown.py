"""What a stage writes in Markdown is read as it was meant, whatever the names, addresses and errors in it are."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miniml.champion.record import Champion
from miniml.cluster.inference_service import inference_service
from miniml.deployment.deploy import Deployed
from miniml.escaping import clipped, printable
from miniml.gate.rules import Ruling, Verdict
from miniml.preflight.cluster_checks import CheckResult, PreflightReport
from miniml.preflight.pinning import markdown_of
from miniml.reports.markdown import bullets, code, escaped, heading, markdown_table, strong
from miniml.settings.deployment import DeploymentSettings
from miniml.sources.pins import Pins
from tests.command import ROOT
from tests.hostile import PAYLOADS
from tests.rendered import Rendered

SIGNS = "\\`*_{}[]<>|~$&#=^:/.+-!()\"'@% \t\n0129abww"
"""What Markdown is made of."""
NASTY = (
    *("error_rate 0.05, min_gain 0", "__init__", "2 * 3 * 4", "a|b", "`code`", "**bold**", "~~struck~~"),
    *("# head", "- item", "+ item", "1. one", "1) one", "2026.", "===", "---", "***", "> said", "    four"),
    *("<b>bold</b>", "&lt;", "[a](http://b.example)", "![a](b)", "http://a_b.example/c_d_e", "www.a_b_c.d"),
    *(
        "a\nb",
        "\ta",
        "ends in a \\",
        "[^1]: note",
        "[a]: b",
        "x  \n y",
        "$x_1$",
        "好 schön",
        "\u202egnp",
        " ",
    ),
)
NAMES = st.text(SIGNS, max_size=20) | st.text(max_size=20) | st.sampled_from([*NASTY, *PAYLOADS])


def read(text: str) -> str:
    """How a person reads a text on a page: with what does not print shown, and blanks being blanks."""
    return " ".join(printable(text).encode("utf-8", "replace").decode().split())


def rendered(page: str) -> Rendered:
    """The page, in which blanks are blanks."""
    found = Rendered(page.encode("utf-8", "replace").decode())
    found.rows = [[" ".join(cell.split()) for cell in row] for row in found.rows]
    found.items = [" ".join(item.split()) for item in found.items]
    found.headings = [" ".join(heading.split()) for heading in found.headings]
    return found


def with_examples(test: Callable[..., None]) -> Callable[..., None]:
    for name in NASTY:
        test = example(name)(test)
    return test


@with_examples
@given(NAMES)
def test_the_verdict_reads_as_the_gate_said_it(name: str) -> None:
    rulings = [Ruling(name, name, name, True, name), Ruling(name, name, name, False, f"{name} {name}")]
    verdict = Verdict(rulings, name, [name])
    page = rendered(verdict.markdown())
    assert page.headings == ["Rejected"]
    assert page.rows[1:] == [[read(name)] * 3 + ["passed"], [read(name)] * 3 + ["not passed"]]
    assert page.items == [read(reason) for reason in verdict.reasons]
    assert page.tags <= {"h1", "p", "table", "thead", "tbody", "tr", "th", "td", "strong", "ul", "li"}


@with_examples
@given(NAMES)
def test_the_champion_reads_as_it_was_found(name: str) -> None:
    found = Champion("d" * 64, name, "f" * 64, name or "models/stars")
    page = rendered(found.markdown())
    assert ["model", read(clipped(name, 200))] in page.rows
    assert ["served as", read(found.place)] in page.rows
    absent = rendered(Champion(absent=name).markdown())
    assert read(f"{name}: a new model is judged by the absolute rules.") in " ".join(absent.text.split())
    assert absent.tags == {"h1", "p"}


@with_examples
@given(NAMES)
def test_what_preflight_found_reads_as_the_cluster_said_it(name: str) -> None:
    entries = [CheckResult(name), CheckResult(name, name, name), CheckResult(name, skipped=name)]
    page = rendered(PreflightReport(entries).markdown())
    bad = read(name) if name else "ok"
    unseen = f"not looked at: {read(name)}".strip() if name else "ok"
    assert page.rows[1:] == [
        [read(name), "ok", ""], [read(name), bad, read(name)], [read(name), unseen, ""],
    ]  # fmt: skip
    assert page.tags <= {"h1", "table", "thead", "tbody", "tr", "th", "td", "strong", "code"}


@with_examples
@given(NAMES)
def test_the_sources_of_a_run_read_as_they_were_named(name: str) -> None:
    page = rendered(markdown_of(Pins({name: name}, {name: name})))
    assert page.rows[1:] == [[read(name)] * 3]
    assert page.tags == {"h1", "table", "thead", "tbody", "tr", "th", "td"}


@with_examples
@given(NAMES)
def test_what_serves_reads_as_it_was_deployed(name: str) -> None:
    settings = DeploymentSettings()
    service = inference_service("s3://models/new", "d" * 64, settings, "run-1")
    service["metadata"] |= {"name": name, "namespace": name}
    service["spec"]["predictor"]["model"]["storageUri"] = name
    page = rendered(Deployed(service, applied=True, url=name or "none").markdown())
    assert page.headings == [read(f"{name}/{name} serves")]
    assert ["address", read(name or "none")] in page.rows
    assert ["model", read(name)] in page.rows
    assert page.tags == {"h1", "table", "thead", "tbody", "tr", "th", "td"}


@with_examples
@given(NAMES)
def test_a_value_reads_as_itself_wherever_it_stands(name: str) -> None:
    # At the beginning of a line, within one, and after a line of its own paragraph.
    page = rendered(
        f"{heading(name)}\n{markdown_table([name], [[name]])}\n{bullets([name, name])}\na {escaped(name)} b\n"
    )
    assert page.headings == [read(name)]
    assert page.rows == [[read(name)], [read(name)]]
    assert page.items == [read(name), read(name)]
    assert " ".join(page.text.split()).endswith(read(f"a {name} b"))
    assert page.tags <= {"h1", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "p"}


def test_what_is_markdown_already_is_not_escaped_again() -> None:
    assert escaped(strong("a_b")) == "**a\\_b**"
    assert escaped(code("kubectl get pods_x -n *")) == "`kubectl get pods_x -n *`"
    assert code("a | b `c`") == "a \\| b \\`c\\`"
    assert escaped("gut & schön: 5/5, x = 1, it's ok (0.5)") == "gut \\& schön: 5/5, x = 1, it's ok (0.5)"


@pytest.mark.parametrize(
    "page",
    ["gate/rules", "champion/record", "preflight/cluster_checks", "preflight/pinning", "deployment/deploy"],
)
def test_every_page_is_made_by_the_one_module_that_escapes(page: str) -> None:
    tree = ast.parse((ROOT / "miniml" / f"{page}.py").read_text())
    [method] = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name in ("markdown", "markdown_of")
    ]
    texts = [
        node.value
        for node in ast.walk(method)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not any("|" in text or text.startswith("#") for text in texts)
