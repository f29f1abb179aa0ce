"""The documentation: its site builds, no link of it or of the repository's pages is broken, and its commands exist."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from docs.generator import arguments
from docs.generator.gathering import AT_THE_ROOT
from docs.generator.subjects import API, COMPILED, STAGES, parsers
from tests import patience
from tests.browser import Browser
from tests.command import ROOT

PAGES = [ROOT / name for name in AT_THE_ROOT] + sorted((ROOT / "docs").rglob("*.md"))
GUIDES = [ROOT / "docs" / "tutorial.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
NOT_OURS = {"curl", "export", "head", "python3.11", ".venv/bin/pip", ".venv/bin/python", "DATASET"}
"""What a guide's command may begin with beside the project's own programs."""


@dataclass
class Page(HTMLParser):
    """What a built page asks for, leads to and can be led to."""

    text: str
    assets: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    anchors: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        elif tag in ("link", "script", "img", "iframe", "source", "object"):
            self.assets |= {given[name] for name in ("href", "src", "data") if name in given}

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    for words in (["docs.generator", str(folder)], ["zensical", "build", "--strict"]):
        built = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=patience.SECONDS,
        )
        assert built.returncode == 0, built.stdout + built.stderr
    return folder / "build" / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    # The page of what is not found is served for any address: its links begin at the root of a host.
    return {path: page for path, page in found.items() if path.name != "404.html"}


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links | page.assets:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            there = target.is_file() and target.is_relative_to(site)
            if not there or (parts.fragment and unquote(parts.fragment) not in pages[target].anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_every_page_can_be_reached_from_the_first(site: Path, pages: dict[Path, Page]) -> None:
    reached: set[Path] = set()
    ahead = [site / "index.html"]
    while ahead:
        path = ahead.pop()
        if path in reached or path not in pages:
            continue
        reached.add(path)
        ahead += [(path.parent / urlsplit(link).path).resolve() for link in pages[path].links]
        ahead += [path / "index.html" for path in ahead if path.is_dir()]
    assert pages.keys() - reached == set()


def test_the_site_asks_no_other_host_for_anything(pages: dict[Path, Page]) -> None:
    assert [asset for page in pages.values() for asset in page.assets if urlsplit(asset).netloc] == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_a_page_is_whole_in_a_browser_and_asks_nobody(site: Path, browser: Browser, width: int) -> None:
    for name in ("index.html", "tutorial.html", "reference/components.html", "reference/python.html"):
        browser.open((site / name).as_uri(), width)
        assert {urlsplit(address).scheme for address in browser.requested()} <= {"file", "data"}
        assert browser.run("document.documentElement.scrollWidth") <= width


def test_the_reference_has_every_option_of_every_command(pages: dict[Path, Page]) -> None:
    text = " ".join(word for page in pages.values() for word in page.words)
    for name, command in commands().items():
        options = {option for action in command._actions for option in action.option_strings}
        assert {option for option in options if option not in text} <= {"-h", "--help"}, name
        assert name.split()[-1] in text


def test_the_reference_has_every_argument_with_its_description(site: Path, pages: dict[Path, Page]) -> None:
    text = "".join(pages[site / "arguments.html"].words)
    # Of an argument that several stages take, the first tells.
    known = {name: argument for stage in reversed(STAGES.values()) for name, argument in stage.items()}
    for name, argument in known.items():
        assert name in text
        assert as_read(argument.description) in as_read(text)


def test_the_tables_of_arguments_are_what_the_settings_say() -> None:
    """Those of docs/arguments.md, and those of the README, which show the arguments that people set first."""
    made = arguments.files()
    assert [path.name for path, text in made.items() if path.read_text(encoding="utf-8") != text] == [], (
        "run make compile"
    )
    assert made[ROOT / "README.md"].count("| argument |") == 2


def test_the_reference_has_what_each_component_takes_and_makes(site: Path, pages: dict[Path, Page]) -> None:
    page = pages[site / "reference" / "components.html"]
    text = as_read("".join(page.words))
    for path in (COMPILED / "components").glob("*.yaml"):
        assert path.stem in page.anchors
        [component] = next(yaml.safe_load_all(path.read_text()))["components"].values()
        for side in ("inputDefinitions", "outputDefinitions"):
            for kind in component.get(side, {}).values():
                for name, definition in kind.items():
                    assert name in text
                    assert as_read(definition["description"]) in text


def test_the_reference_has_every_public_function_and_class(site: Path, pages: dict[Path, Page]) -> None:
    assert set(API) - pages[site / "reference" / "python.html"].anchors == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_of_a_page_leads_to_a_file_of_the_repository_and_to_a_heading_of_it(page: Path) -> None:
    for link in links_of(page):
        parts = urlsplit(link)
        if not parts.scheme:
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.exists(), link
            if parts.fragment:
                assert parts.fragment in headings_of(target), link


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_command_of_a_guide_is_one_that_there_is(guide: Path) -> None:
    targets = re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands_in(guide):
        words = shlex.split(command)
        match words:
            case ["make", target, *_]:
                assert target in targets, command
            case [".venv/bin/python", "-m", str(module), *given] if module != "zipfile":
                commands()[f"python -m {module}"].parse_args(given)
            case [".venv/bin/miniml", *given]:
                commands()["miniml"].parse_args(given)
            case [".venv/bin/torchrun", "--nproc-per-node", _, "-m", str(module), *given]:
                commands()[f"python -m {module}"].parse_args(given)
            case [first, *_]:
                assert first.partition("=")[0] in NOT_OURS, command


@cache
def commands() -> dict[str, argparse.ArgumentParser]:
    """Returns the parser of every program and of each of its commands, by what a person types."""
    return {command.prog: command for parser in parsers() for command in commands_of(parser)}


def commands_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yields a parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from commands_of(command)


def commands_in(page: Path) -> list[str]:
    """Returns the commands of a page's blocks of shell, each on one line."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").strip().split("\n")]


def links_of(page: Path) -> list[str]:
    """Returns where the links and images of a page of Markdown lead, without those in blocks of code."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose))


@cache
def headings_of(page: Path) -> set[str]:
    """Returns the anchors that a forge gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def as_read(text: str) -> str:
    """Returns a text as a page shows it, as far as white space, code and quotation marks go."""
    return re.sub(r"[\s`\\]|&\w+;", "", text)
