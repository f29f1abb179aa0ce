"""A cron expression that Kubeflow Pipelines would refuse, or never run by, is refused before it is sent."""

from __future__ import annotations

import pytest

from miniml.errors import InputError
from miniml.kubeflow.cron import with_seconds


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("*/5 * * * *", "0 */5 * * * *"),
        ("30 0 3 * * 1", "30 0 3 * * 1"),
        ("0 9-17/2 1,15 JAN-mar ?", "0 0 9-17/2 1,15 JAN-mar ?"),
        ("0 3 * * Mon,thu-SAT", "0 0 3 * * Mon,thu-SAT"),
        ("  0 3  * * 0 ", "0 0 3 * * 0"),
        ("5/15 * * * *", "0 5/15 * * * *"),
        ("0 0 29 2 *", "0 0 0 29 2 *"),
        ("0 0 31 2 5", "0 0 0 31 2 5"),  # of a day of the month and one of the week, one is enough
        ("@daily", "@daily"),
        ("@every  1h30m", "@every 1h30m"),
    ],
)
def test_a_cron_expression_gets_its_seconds(given: str, sent: str) -> None:
    assert with_seconds(given) == sent


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(("61 * * * *", "the minute is 0 to 59"), ("60 0 0 * * *", "the second is 0 to 59")),
        *(("0 24 * * *", "the hour is 0 to 23"), ("0 0 0 * *", "the day of the month is 1 to 31")),
        *(("0 0 * 13 *", "the month is 1 to 12, or jan to dec"), ("0 0 * * 7", "Sunday is 0")),
        *(("0 0 * * monday", "'monday' is no time"), ("0 3-1 * * *", "goes upwards")),
        *(("*/0 * * * *", "steps by 1 or more"), ("1,,2 * * * *", "'' is no time")),
        *(("1-2-3 * * * *", "'1-2-3' is no time"), ("a * * * *", "'a' is no time"), ("-1 * * * *", "'-1'")),
        *(("0 0 30 2 *", "no such month has a day 30"), ("0 0 31 4,6 *", "no such month has a day 31")),
        *(("0 3", "has 2 fields"), ("", "has 0 fields"), ("0 0 0 0 0 0 0", "has 7 fields")),
        *(("@noon", "is none of @yearly"), ("@every 0s", "is none of"), ("@every day", "is none of")),
        ("²  * * * *", "is no time"),
    ],
)
def test_what_would_be_refused_or_never_run_is_told(given: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        with_seconds(given)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 500
