"""Collects what the checks of the data found: numbers of rows, and a few examples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

# The number of examples of each check in the report.
MAX_EXAMPLES = 5
# The length of an excerpt in characters, which keeps the page small whatever the source holds.
LONGEST_EXCERPT = 320

CHECKS = {
    "empty": "no text",
    "long": "longer than max_characters",
    "unlabelled": "no label",
    "rare_class": "class with too few rows",
    "label_spelling": "label written otherwise than in other rows",
    "label_alike": "label that differs from another by case or the like only",
    "label_none": "label that reads like none",
    "label_several": "label that reads like several",
    "mojibake": "text that was read in another encoding than its own",
    "replacement_characters": "characters lost to an earlier conversion (U+FFFD)",
    "control_characters": "control characters",
    "html": "HTML tags or entities",
    "conflicting": "the same text under different labels",
    "duplicate": "the same text as another row",
    "shared_group": "a group of a split that the source holds out",
    "near_duplicate": "nearly the text of a row in a split held out",
    "near_duplicate_within": "nearly the text of another row in the same split",
    "near_duplicate_conflict": "nearly the same text, another label",
}
"""The description of each check, by its name."""


@dataclass(frozen=True)
class Passage:
    """A text or an excerpt of it, for the report."""

    place: str
    """The place of the text in the source."""
    text: str
    label: str = ""

    @classmethod
    def of(cls, place: str, text: str, label: str = "", around: int = 0) -> Passage:
        """Returns a passage of a text, of which a long one is cut.

        Args:
            place: The place of the text in the source.
            text: The whole text.
            label: The text's label.
            around: The number of a character that the excerpt must hold.
        """
        begin = max(0, around - LONGEST_EXCERPT // 4) if len(text) > LONGEST_EXCERPT else 0
        end = begin + LONGEST_EXCERPT
        excerpt = "…" * (begin > 0) + text[begin:end] + "…" * (end < len(text))
        return cls(place, excerpt, label)


@dataclass(frozen=True)
class Example:
    """An example of a finding: a passage, or two side by side."""

    passages: tuple[Passage, ...]
    similarity: float | None = None


@dataclass
class Findings:
    """The findings of all checks, each by the check's name."""

    found: Counter[str] = field(default_factory=Counter)
    """The rows with a finding."""
    dropped: Counter[str] = field(default_factory=Counter)
    """The rows that were left out for it."""
    cleaned: Counter[str] = field(default_factory=Counter)
    """The rows that were cleaned of it."""
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, check: str, rows: int, *, dropped: bool = False) -> None:
        """Adds rows with a finding.

        Args:
            check: The name of the check.
            rows: The number of rows.
            dropped: Whether these rows are left out.
        """
        if rows:
            self.found[check] += rows
            if dropped:
                self.dropped[check] += rows

    def show(self, check: str, *passages: Passage, similarity: float | None = None) -> None:
        """Adds an example, unless the check has enough of them.

        Args:
            check: The name of the check.
            passages: The text, or two texts to be compared.
            similarity: The similarity of two texts.
        """
        kept = self.examples.setdefault(check, [])
        if len(kept) < MAX_EXAMPLES:
            kept.append(Example(passages, similarity))

    def wants(self, check: str) -> bool:
        """Tells whether the check still needs examples."""
        return len(self.examples.get(check, ())) < MAX_EXAMPLES
