"""Finds out what each source of a run is now: its commit on the hub, its digest in a store or on this disk."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from miniml import environment
from miniml.errors import InputError
from miniml.files.digests import digest_of, sha256
from miniml.reports.markdown import heading, table
from miniml.sources.address import HubId, S3Address, locate
from miniml.sources.pins import Pins

MODEL = "model_id"
"""The argument that names a model; every other one names a dataset."""


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
        where = locate(argument, source)
    except InputError:
        # Another stage's image may hold it; if it does not, that stage says so better.
        return source, _never_the_same()
    if isinstance(where, HubId):
        return _on_the_hub(argument, source, where)
    if isinstance(where, S3Address):
        return _in_the_store(argument, source, where)
    return source, _on_this_disk(where)


def _on_the_hub(argument: str, source: str, where: HubId) -> tuple[str, str]:
    from miniml.sources import hub_access  # Only here: a source from elsewhere needs no hub.

    commit = hub_access.commit_of(argument, where, "model" if argument == MODEL else "dataset")
    if not commit:
        return source, _never_the_same()
    if hub_access.offline():
        # By its name alone: of what came by another name, the libraries' caches do not know the commit.
        return source, f"{hub_access.endpoint()} {commit}"
    return str(replace(where, revision=commit)), hub_access.endpoint()


def _in_the_store(argument: str, source: str, where: S3Address) -> tuple[str, str]:
    from miniml.store import repository  # Only here: a source from elsewhere needs no S3 client.

    identity = repository.identify(argument, where)
    if where.version:
        return str(replace(where, version=f"sha256:{identity}")), ""
    return source, identity


def _on_this_disk(path: Path) -> str:
    """A digest of a file, or of a folder's files with their names. Times tell nothing: copying may keep them."""
    try:
        if path.is_file():
            return sha256(path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return digest_of({file.relative_to(path).as_posix(): sha256(file) for file in files})
    except OSError:  # Something that may not be read lies in the folder, or goes just now.
        return _never_the_same()


def _never_the_same() -> str:
    """The state of what nobody can say anything of: no cache may answer for it."""
    return f"unknown: {secrets.token_hex(8)}"


def markdown_of(pins: Pins) -> str:
    """A table of what was found, for a report."""
    named = sorted({*pins.addresses, *pins.states})
    rows = [(source, pins.of(source), pins.states.get(source, "")) for source in named]
    return f"{heading('Sources')}\n{table(('named', 'read in this run', 'its state'), rows)}"
