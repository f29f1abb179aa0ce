"""The page at `/` and the routes at `/docs`, as a person with a browser meets them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import requests

from serving.openapi import EXAMPLE
from tests import patience
from tests.browser import WEAKEST_CONTRAST, Browser
from tests.predictor import Server, running

pytestmark = pytest.mark.browser

TEXT = "we loved the food <b>but</b> the staff was rude & it's cold"
EXPLAINED = "!document.getElementById('explanation').hidden"


def ask(browser: Browser, text: str) -> None:
    """Types the text where the page has put the focus, and sends it."""
    browser.wait_for("document.activeElement.id === 'text'")
    browser.type(text)
    browser.press("Enter", ctrl=True)


def test_a_text_typed_and_sent_by_keyboard_shows_classes_as_bars_and_the_words_that_pushed(
    server: Server, browser: Browser
) -> None:
    browser.open(server.url)
    ask(browser, TEXT)
    browser.wait_for(EXPLAINED)
    answer = server.post("/predict", {"text": TEXT}).json()
    assert browser.text_of("#label") == answer["label"]
    lines = browser.run("[...document.querySelectorAll('#bars li')].map(line => line.innerText)")
    assert [line.split("\n")[0] for line in lines] == ["bad", "so so", "gut & schön"]
    assert [float(line.split("\n")[-1].rstrip("%")) for line in lines] == pytest.approx(
        [100 * share for share in answer["probabilities"].values()], abs=0.051
    )
    widths = browser.run("[...document.querySelectorAll('.bar')].map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx([100 * share for share in answer["probabilities"].values()], abs=0.01)
    assert browser.text_of("#pieces") == TEXT  # what looks like HTML is text
    assert browser.run("document.querySelectorAll('#pieces b').length") == 0
    marked = browser.run("[...document.querySelectorAll('#pieces mark')].map(mark => mark.innerText)")
    assert marked == TEXT.split()
    pushed = browser.text_of("#for") + browser.text_of("#against")
    assert pushed.count("without it") >= 5
    assert browser.complaints() == []
    assert all(address.startswith(server.url) for address in browser.requested())


def test_a_screen_reader_is_told_the_answer_and_what_every_control_is(
    server: Server, browser: Browser
) -> None:
    browser.open(server.url)
    browser.wait_for("document.activeElement.id === 'text'")
    browser.press("Tab")
    assert browser.run("document.activeElement.innerText") == "Classify"
    browser.run("document.getElementById('text').focus()")
    browser.type("we loved it")
    browser.press("Tab")
    browser.press("Enter")
    browser.run("document.activeElement.click()")
    browser.wait_for(EXPLAINED)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    named = {(node["role"]["value"], node["name"]["value"]) for node in nodes if node.get("name")}
    assert {
        ("textbox", "Text to classify"),
        ("button", "Classify"),
        ("heading", "Answer"),
        ("list", "Probability of each class"),
        ("region", "What pushed it"),
    } <= named
    assert browser.run("document.querySelector('[role=status]').innerText.length > 3")
    assert browser.run("document.documentElement.lang") == "en"


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1200, True)])
def test_nothing_hangs_over_the_edge_of_any_screen_and_all_of_it_can_be_read(
    server: Server, browser: Browser, width: int, dark: bool
) -> None:
    browser.open(server.url, width, dark=dark)
    ask(browser, "we loved it " + "verylongword" * 40)
    browser.wait_for(EXPLAINED)
    browser.run("document.getElementById('terminal').open = true")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(WEAKEST_CONTRAST) >= 4.5  # WCAG's for text


def test_the_command_for_the_terminal_asks_the_same(server: Server, browser: Browser) -> None:
    browser.open(server.url)
    ask(browser, TEXT)
    browser.wait_for(EXPLAINED)
    command = browser.run("document.getElementById('command').textContent")
    output = subprocess.run(
        ["sh", "-c", command], capture_output=True, check=True, timeout=patience.SECONDS
    ).stdout
    assert json.loads(output) == server.post("/predict", {"text": TEXT}).json()


def test_a_refusal_is_shown_and_so_is_a_server_that_has_gone(
    tiny_model: Path, browser: Browser, tmp_path: Path
) -> None:
    with running(tiny_model, tmp_path / "log", "--max-body-bytes=100") as small:
        browser.open(small.url)
        ask(browser, "we loved it " * 20)
        browser.wait_for("!document.getElementById('error').hidden")
        assert "--max_body_bytes" in browser.text_of("#error")
    browser.press("Enter", ctrl=True)
    browser.wait_for("/cannot be reached/.test(document.getElementById('error').innerText)")


def test_a_page_behind_a_prefix_finds_its_server(server: Server) -> None:
    for path in ("/", "/docs"):
        page = server.get(path)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for mark in ('href="/', 'src="/', "http:", "https:"):
            assert mark not in page.text


def test_docs_shows_every_route_without_asking_another_host_and_a_try_answers(
    server: Server, browser: Browser
) -> None:
    browser.open(f"{server.url}/docs")
    browser.wait_for("document.querySelectorAll('.opblock').length > 10")
    browser.run("document.querySelector('#operations-miniml-post_predict .opblock-summary-control').click()")
    browser.wait_for("document.querySelector('textarea.body-param__text')?.value.includes('text')")
    answered = "document.querySelector('.live-responses-table') !== null"
    # A click that comes before Swagger has drawn all of it does nothing, so it is repeated.
    browser.wait_for(f"{answered} || (document.querySelector('.execute').click(), false)")
    answer = server.post("/predict", {"text": EXAMPLE}).json()
    assert f'"label": "{answer["label"]}"' in browser.text_of(".live-responses-table")
    assert browser.complaints() == []
    elsewhere = [url for url in browser.requested() if not url.startswith((server.url, "data:"))]
    assert elsewhere == []


def test_without_the_docs_the_page_stays(tiny_model: Path, tmp_path: Path) -> None:
    with running(tiny_model, tmp_path / "log", "--enable_docs_url=false") as bare:
        assert bare.get("/").ok
        for path in ("/docs", "/openapi.json", "/swagger/swagger-ui.css"):
            assert bare.get(path).status_code == requests.codes.not_found
