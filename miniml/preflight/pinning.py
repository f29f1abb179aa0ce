"""Pins the sources of a run: finds out their commits on the hub, or their digests in a store or on this disk."""

from __future__ import annotations

from collections.abc import Iterable

from miniml import environment
from miniml.errors import InputError
from miniml.reports.markdown import heading, markdown_table
from miniml.sources.address import locate
from miniml.sources.pins import Pins
from miniml.sources.source import Pinned


def look_up(sources: Iterable[tuple[str, str]]) -> Pins:
    """Finds out what each source is now, without fetching it.

    Args:
        sources: Pairs of an argument and its value, such as ("dataset_id", "s3://data/reviews@latest").

    Raises:
        InputError: The hub has no such repository or revision.
        HubError: The hub does not answer.
        StoreError: The S3 store does not have the source, or does not answer.
    """
    addresses, states = {}, {}
    for argument, source in dict.fromkeys(sources):
        address, state = _now(argument, source)
        if address != source:
            addresses[source] = address
        if state:
            states[source] = state
    return Pins(addresses, states, environment.fingerprint())


def _now(argument: str, source: str) -> tuple[str, str]:
    """Returns the address that pins a source, or the source itself, and its state if the address does not tell it."""
    try:
        found = locate(argument, source)
    except InputError:
        # The source may be in another stage's image; if it is not, that stage's error is clearer.
        return source, Pinned.unknown().state
    pinned = found.pin()
    return pinned.address or source, pinned.state


def markdown_of(pins: Pins) -> str:
    """Returns a table of the sources, their pinned addresses and states."""
    named = sorted({*pins.addresses, *pins.states})
    rows = [(source, pins.of(source), pins.states.get(source, "")) for source in named]
    return f"{heading('Sources')}\n{markdown_table(('named', 'read in this run', 'its state'), rows)}"
