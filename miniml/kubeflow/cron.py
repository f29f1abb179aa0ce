"""Checks cron expressions as Kubeflow Pipelines 2.17 reads them: with robfig/cron 1.2, whose first field is seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass

from miniml.errors import InputError
from miniml.escaping import shown

EXAMPLES = (
    "Give five fields (minute, hour, day of month, month, day of week: '0 3 * * 1' is Mondays at 3:00), six with the "
    "second first, '@daily', or '@every 6h'."
)


@dataclass(frozen=True)
class _Field:
    """The values that one field allows; its names stand for the numbers from `minimum` on."""

    title: str
    minimum: int
    maximum: int
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"{self.title} is {self.minimum} to {self.maximum}{names}"

    def number(self, word: str) -> int:
        """Returns the value of a number or a name; -1 where the field does not allow it."""
        if word.lower() in self.names:
            return self.minimum + self.names.index(word.lower())
        return (
            int(word)
            if word.isascii() and word.isdecimal() and self.minimum <= int(word) <= self.maximum
            else -1
        )


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# The bounds of robfig/cron 1.2.0 (spec.go): Sunday is 0 only, and not 7.
_FIELDS = (
    _Field("the second", 0, 59),
    _Field("the minute", 0, 59),
    _Field("the hour", 0, 23),
    _Field("the day of the month", 1, 31),
    _Field("the month", 1, 12, _MONTHS),
    _Field("the day of the week", 0, 6, _DAYS),
)
_DAY, _MONTH, _WEEKDAY = 3, 4, 5
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_RANGE = re.compile(
    r"(?P<all>[*?])(/(?P<every>\d+))?|(?P<first>\w+)(-(?P<last>\w+))?(/(?P<step>\d+))?", re.ASCII
)
_SHORTHANDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = re.compile(r"@every (?=.*[1-9])(\d+h)?(\d+m)?(\d+s)?")


def with_seconds(cron: str) -> str:
    """Returns a cron expression as Kubeflow Pipelines takes it: with a field for seconds before the usual five.

    Raises:
        InputError: Kubeflow Pipelines would refuse the expression, or would never start a run.
    """
    fields = cron.split()
    expression = " ".join(fields)
    if expression in _SHORTHANDS or _EVERY.fullmatch(expression):
        return expression
    if expression.startswith("@"):
        raise InputError(f"cron {shown(cron)} is none of {', '.join(_SHORTHANDS)}, '@every 6h'.")
    if len(fields) not in (5, 6):
        raise InputError(f"cron {shown(cron)} has {len(fields)} fields. {EXAMPLES}")
    if len(fields) == 5:
        fields = ["0", *fields]
    times = [_times(field, text, cron) for field, text in zip(_FIELDS, fields, strict=True)]
    any_weekday = fields[_WEEKDAY].startswith(("*", "?"))
    if any_weekday and min(times[_DAY]) > max(_LONGEST_MONTH.get(month, 31) for month in times[_MONTH]):
        raise InputError(f"cron {shown(cron)} would never run: no such month has a day {min(times[_DAY])}.")
    return " ".join(fields)


def _times(field: _Field, text: str, cron: str) -> set[int]:
    """Returns the numbers that a field stands for."""
    times: set[int] = set()
    for part in text.split(","):
        found = _range(field, part)
        if not found:
            sunday = " Sunday is 0." if field.names == _DAYS and "7" in part else ""
            raise InputError(
                f"cron {shown(cron)}: {shown(part)} is no time, for {field}; 'a-b' goes upwards, and '/n' steps by "
                f"1 or more.{sunday} {EXAMPLES}"
            )
        times |= set(found)
    return times


def _range(field: _Field, part: str) -> range:
    """Returns the numbers of one part between commas; an empty range where it cannot be read."""
    found = _RANGE.fullmatch(part)
    step = int(found["every"] or found["step"] or 1) if found else 0
    if not found or not step:
        return range(0)
    if found["all"]:
        return range(field.minimum, field.maximum + 1, step)
    first = field.number(found["first"])
    # Without an end, a step goes on to the highest number.
    last = field.number(found["last"]) if found["last"] else field.maximum if found["step"] else first
    return range(first, last + 1, step) if 0 <= first <= last else range(0)
