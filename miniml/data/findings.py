"""What the checks found: how many rows, a few of them to look at, and what became of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

# In the report, of each kind.
MAX_EXAMPLES = 5
# What a reader needs to see of a text; the page stays small whatever the source holds.
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
"""What is looked for, in a person's words; the counts are of rows."""


@dataclass(frozen=True)
class Passage:
    """A text, or the part of it that matters, and where the source has it."""

    place: str
    text: str
    label: str = ""

    @classmethod
    def of(cls, place: str, text: str, label: str = "", around: int = 0) -> Passage:
        """An excerpt that holds the character number `around`."""
        begin = max(0, around - LONGEST_EXCERPT // 4) if len(text) > LONGEST_EXCERPT else 0
        end = begin + LONGEST_EXCERPT
        excerpt = "…" * (begin > 0) + text[begin:end] + "…" * (end < len(text))
        return cls(place, excerpt, label)


@dataclass(frozen=True)
class Example:
    """One finding: a passage, or two side by side."""

    passages: tuple[Passage, ...]
    similarity: float | None = None


@dataclass
class Findings:
    """Filled by one check after the other."""

    found: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    cleaned: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, check: str, rows: int, *, dropped: bool = False) -> None:
        """Counts rows of a check."""
        if rows:
            self.found[check] += rows
            if dropped:
                self.dropped[check] += rows

    def show(self, check: str, *passages: Passage, similarity: float | None = None) -> None:
        """Keeps an example, if there is room for it."""
        kept = self.examples.setdefault(check, [])
        if len(kept) < MAX_EXAMPLES:
            kept.append(Example(passages, similarity))

    def wants(self, check: str) -> bool:
        """Whether there is room for another example."""
        return len(self.examples.get(check, ())) < MAX_EXAMPLES
