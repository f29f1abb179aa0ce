"""Checks the size of requests, the same for every protocol."""

from __future__ import annotations

from collections.abc import Sequence

from kserve.errors import InvalidInput

from .settings import Limits


def require_within(limits: Limits, texts: Sequence[str]) -> None:
    """Checks a request's texts against the limits.

    Raises:
        InvalidInput: There are too many texts, or one is too long; the message names the limit and how to raise it.
    """
    require_few(limits, len(texts))
    for place, text in enumerate(texts):
        if len(text) > limits.characters:
            raise InvalidInput(
                f"text {place} has {len(text)} characters, of {limits.characters} that one may have. "
                f"Shorten it, or start the server with a larger --max_characters."
            )


def require_few(limits: Limits, texts: int) -> None:
    """Checks the number of a request's texts against the limit.

    Raises:
        InvalidInput: There are too many.
    """
    if texts > limits.texts:
        raise InvalidInput(
            f"the request has {texts} texts, of {limits.texts} that one may have. "
            f"Send several requests, or start the server with a larger --max_texts."
        )
