"""Pins the sources of a run: finds out their commits on the hub, or their digests in a store or on this disk."""

from __future__ import annotations

from collections.abc import Iterable

from miniml import environment
from miniml.errors import InputError
from miniml.reports.markdown import heading, table
from miniml.sources.address import locate
from miniml.sources.pins import Pins
from miniml.sources.source import Pinned


def look_up(sources: Iterable[tuple[str, str]]) -> Pins:
    """Finds out what each source is now; nothing of it is fetched.

    Args:
        sources: The argument that names each, and what it names: ("dataset_id", "s3://data/reviews@latest").

    Raises:
        InputError: the hub has no such repository or revision.
        HubError: the hub does not answer.
        StoreError: the S3 store does not have it, or does not answer.
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
    """The address that pins a source, or the source itself, and its state, where the address does not tell it all."""
    try:
        found = locate(argument, source)
    except InputError:
        # Another stage's image may hold it; if it does not, that stage says so better.
        return source, Pinned.unknown().state
    pinned = found.pin()
    return pinned.address or source, pinned.state


def markdown_of(pins: Pins) -> str:
    """A table of what was found, for a report."""
    named = sorted({*pins.addresses, *pins.states})
    rows = [(source, pins.of(source), pins.states.get(source, "")) for source in named]
    return f"{heading('Sources')}\n{table(('named', 'read in this run', 'its state'), rows)}"
