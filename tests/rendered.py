"""Markdown as a person reads it: put through a real renderer, and taken apart again."""

from __future__ import annotations

from html.parser import HTMLParser

from markdown_it import MarkdownIt


class Rendered(HTMLParser):
    """A page of Markdown: its tags, the rows of its tables, and what its headings and lists say."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.headings: list[str] = []
        self.items: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif (kept := self._kept(tag)) is not None:
            kept.append("")
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, words: str) -> None:
        self.text += words
        if self._open and (kept := self._kept(self._open[-1])) is not None:
            kept[-1] += words

    def _kept(self, tag: str) -> list[str] | None:
        """Where the words of such an element are kept."""
        if tag in ("td", "th"):
            return self.rows[-1]
        return {"h1": self.headings, "h2": self.headings, "li": self.items}.get(tag)
