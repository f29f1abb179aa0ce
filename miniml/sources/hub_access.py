"""Asks the Hugging Face hub about repositories, and explains its errors.

Nothing is fetched here, so that a stage that fetches nothing needs no more than the hub's client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from miniml.errors import HubError, HubUnavailableError, InputError, MinimlError
from miniml.sources.hub_id import HubId

# Seconds for the hub to answer that it has the repository, and again that it can send a file of it. Without this check,
# a hub that hangs would block for minutes: the libraries try every file several times.
PROBE_TIMEOUT = 10.0

_COMMIT = re.compile(r"[0-9a-f]{40}")


def endpoint() -> str:
    """Returns the hub's address: HF_ENDPOINT, or the public hub."""
    return str(constants.ENDPOINT)


def offline() -> bool:
    """Returns whether HF_HUB_OFFLINE forbids requests to the hub."""
    return bool(constants.HF_HUB_OFFLINE)


def commit_of(argument: str, source: HubId, kind: str) -> str:
    """Returns the commit that `source` names now; "" where it is unknown: offline, and not in the cache.

    Args:
        argument: The name of the setting that the source is from, for messages.
        source: A repository, at a branch, a tag or a commit of it.
        kind: "dataset" or "model".

    Raises:
        InputError: the repository or revision does not exist.
        HubError: the hub refuses, fails, or cannot be reached.
    """
    if offline():
        return _commit_in_cache(source, kind)
    with explained(argument, source):
        commit = str(getattr(probe(source, kind), "sha", None) or "")
    if commit:
        _remember(source, kind, commit)
    return commit


def probe(source: HubId, kind: str) -> Any:
    """Checks that the hub has a repository and can send a file of it.

    Args:
        source: The repository.
        kind: "dataset" or "model".

    Returns:
        The hub's description of the repository; None with HF_HUB_OFFLINE.

    Raises:
        Exception: any error of the hub's client; call it within `explained`, which replaces it.
    """
    if offline():
        return None
    info = HfApi().repo_info(source.name, revision=source.revision, repo_type=kind, timeout=PROBE_TIMEOUT)
    files = getattr(info, "siblings", None)
    if files:
        address = hf_hub_url(source.name, files[0].rfilename, repo_type=kind, revision=source.revision)
        get_hf_file_metadata(address, timeout=PROBE_TIMEOUT)
    return info


def cache_of(source: HubId, kind: str) -> Path:
    """Returns the folder in which the hub's client caches a repository."""
    return Path(constants.HF_HUB_CACHE) / f"{kind}s--{source.name.replace('/', '--')}"


def _commit_in_cache(source: HubId, kind: str) -> str:
    if _COMMIT.fullmatch(source.revision or ""):
        return str(source.revision)
    try:
        commit = _reference(source, kind).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
    return commit if _COMMIT.fullmatch(commit) else ""


def _remember(source: HubId, kind: str, commit: str) -> None:
    """Writes to the cache which commit a branch names, as the hub's client does when it fetches by the branch.

    So files that were fetched by the commit are found by the branch too, when offline.
    """
    if source.revision == commit:
        return
    reference = _reference(source, kind)
    with suppress(OSError):  # The cache may be read-only.
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit, encoding="utf-8")


def _reference(source: HubId, kind: str) -> Path:
    return cache_of(source, kind) / "refs" / (source.revision or "main")


@contextmanager
def explained(
    argument: str, source: HubId, unreadable: tuple[type[Exception], ...] = (EntryNotFoundError,)
) -> Iterator[None]:
    """Replaces any error in the block by one that explains what it means for `source`.

    Args:
        argument: The name of the setting that the source is from, for messages.
        source: The repository.
        unreadable: The errors that mean that the repository has nothing of what was requested.

    Raises:
        InputError: the repository or revision does not exist, or cannot be read.
        HubError: the hub refuses, fails, or cannot be reached.
    """
    try:
        yield
    except MinimlError:
        raise
    except Exception as error:
        raise _explanation(f"{argument} {source.name!r}", source, error, unreadable) from error


def _explanation(
    asked: str, source: HubId, error: Exception, unreadable: tuple[type[Exception], ...]
) -> MinimlError:
    """Returns an error that explains the most specific cause; libraries wrap the hub's answers in their own errors."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, GatedRepoError):
            return HubError(
                f"{asked}: the hub gives it only to those who accepted its terms. Accept them on its page, and set "
                f"HF_TOKEN."
            )
        if isinstance(cause, RevisionNotFoundError):
            return InputError(
                f"{asked} has no revision {source.revision!r}. Leave it out, or name one that there is."
            )
        if isinstance(cause, RepositoryNotFoundError) and _status(cause) == 404:
            return InputError(
                f"{asked} is not on the hub ({constants.ENDPOINT}). Check the spelling; if it is private, set HF_TOKEN."
            )
    for cause in causes:
        if (status := _status(cause)) is not None:
            return _refusal(asked, status)
    if offline() and any(
        isinstance(cause, OfflineModeIsEnabled | LocalEntryNotFoundError) for cause in causes
    ):
        return HubError(
            f"{asked} is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub. Unset it, or give a path."
        )
    if any(isinstance(cause, unreadable) for cause in causes):
        return InputError(f"{asked} holds nothing that can be read: {error}")
    return HubUnavailableError(
        f"{asked}: the hub ({constants.ENDPOINT}) cannot be reached ({_shortest(error)}). Check the network and "
        f"HF_ENDPOINT, set HF_HUB_OFFLINE=1 to take what the cache holds, or give a path."
    )


def _refusal(asked: str, status: int) -> MinimlError:
    if status in (401, 403):
        return HubError(
            f"{asked}: the hub refused access ({status}). Check the spelling; if it is private, set HF_TOKEN to a "
            f"token that may read it."
        )
    if status == 404:
        return InputError(
            f"{asked} is not on the hub ({constants.ENDPOINT}). Check the spelling; if it is private, set HF_TOKEN."
        )
    failed = HubUnavailableError if status >= 500 or status in (408, 429) else HubError
    return failed(f"{asked}: the hub answered {status}. Try again later, or give a local copy.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    if isinstance(error, HfHubHTTPError):
        return int(error.response.status_code)
    return None


def _shortest(error: Exception) -> str:
    return min((f"{type(cause).__name__}: {cause}" for cause in _causes(error)), key=len)[:200]
