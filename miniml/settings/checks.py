"""Checks of settings: each refuses a value with a message that names the setting, the value and the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.field_types import field_types


def require_fraction(name: str, value: float, example: str = "0.2 holds out a fifth") -> None:
    """Refuses a fraction that is not between 0 and 1, both excluded.

    Args:
        name: The setting.
        value: Its value.
        example: A value that is allowed, and what it means.

    Raises:
        InputError: The value is out of range.
    """
    if not 0 < value < 1:
        raise InputError(f"{name} is {value}; it must lie between 0 and 1, both excluded ({example}).")


def require_share(name: str, value: float) -> None:
    """Refuses a fraction that is not between 0 and 1, both included.

    Raises:
        InputError: The value is out of range.
    """
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}; it is a share, so it must lie between 0 and 1 (85 % is 0.85).")


LEAST_LOSS = 1e-6
"""The smallest margin of a smaller model but for 0: it takes three million rows to show that less is lost."""


def require_max_loss(value: float) -> None:
    """Refuses a margin that no dataset has rows enough to show.

    Args:
        value: The setting max_loss.

    Raises:
        InputError: The value is neither 0 nor between `LEAST_LOSS` and 1.
    """
    require_share("max_loss", value)
    if 0 < value < LEAST_LOSS:
        raise InputError(
            f"max_loss is {value:g}; it must be {LEAST_LOSS:f} or more, for which it takes three million rows, or 0 "
            f"for no loss at all."
        )


MAX_EXACT = 2**53
"""Kubeflow Pipelines passes numbers as doubles, which hold no larger whole ones exactly."""


def require_seed(seed: int) -> None:
    """Refuses a seed that is negative or above `MAX_EXACT`.

    Raises:
        InputError: The value is out of range.
    """
    require_at_least("seed", seed, 0)
    if seed > MAX_EXACT:
        raise InputError(f"seed is {seed:.3g}; it must be {MAX_EXACT:,} or less.")


def require_between(name: str, value: float, least: float, most: float, example: str) -> None:
    """Refuses a number below `least` or above `most`, and what is no number.

    Args:
        name: The setting.
        value: Its value.
        least: The smallest allowed value.
        most: The largest allowed value.
        example: A value that is allowed.

    Raises:
        InputError: The value is out of range.
    """
    if not least <= value <= most:
        raise InputError(f"{name} is {value}; it must lie between {least:g} and {most:g}, {example} say.")


def require_at_least(name: str, value: int, least: int, remedy: str = "") -> None:
    """Refuses a number below `least`.

    Args:
        name: The setting.
        value: Its value.
        least: The smallest allowed value.
        remedy: A sentence that ends the message.

    Raises:
        InputError: The value is too small.
    """
    if value < least:
        raise InputError(f"{name} is {value}; it must be {least} or more. {remedy}".rstrip())


def require_count(name: str, value: int, most: int) -> None:
    """Refuses a number below 1 or above `most`.

    Args:
        name: The setting.
        value: Its value.
        most: The largest allowed value.

    Raises:
        InputError: The value is too small or too large.
    """
    require_at_least(name, value, 1)
    if value > most:
        raise InputError(f"{name} is {value:,}; it must be {most:,} or less.")


def require_one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Refuses a value that is not one of `known`.

    Args:
        name: The setting.
        value: Its value.
        known: The allowed values.

    Raises:
        InputError: The value is not allowed.
    """
    if value not in known:
        raise InputError(f"{name} {shown(value)} is not known. Use one of {', '.join(known)}.")


def require_choices(settings: Any) -> None:
    """Refuses settings with a value that is not among the choices of its field's type.

    Raises:
        InputError: A value is not allowed.
    """
    kind: type = type(settings)
    for name, of in field_types(kind).items():
        if of.choices:
            require_one_of(name, getattr(settings, name), of.choices)


def require_service(service_name: str, namespace: str) -> None:
    """Refuses names that an InferenceService or its namespace cannot have.

    Raises:
        InputError: One of them is not a DNS label, or is too long.
    """
    # KServe appends "-predictor" and more to the service's name, and the whole must still be a label.
    require_dns_label("service_name", service_name, longest=40)
    require_dns_label("namespace", namespace, longest=63)


def require_dns_label(name: str, value: str, longest: int) -> None:
    """Refuses a name that is not a DNS label (RFC 1123), which Kubernetes requires of its objects.

    Args:
        name: The setting.
        value: Its value.
        longest: The most characters.

    Raises:
        InputError: The value is not a DNS label, or is too long.
    """
    if len(value) > longest or not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", value):
        raise InputError(
            f"{name} {shown(value)} cannot name a Kubernetes object. Use at most {longest} lower-case letters, digits "
            f"and hyphens, starting with a letter and not ending with a hyphen."
        )


def require_quantity(name: str, value: str) -> None:
    """Refuses what Kubernetes cannot read as an amount of a resource: 500m, 2 and 2Gi are such amounts.

    Raises:
        InputError: The value is not a quantity.
    """
    if not re.fullmatch(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?", value, re.ASCII):
        raise InputError(f"{name} {shown(value)} is not a Kubernetes quantity. Write it as 500m, 2 or 2Gi.")


_UNITS = {
    "": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


def amount_of(quantity: str) -> float:
    """Returns a Kubernetes quantity as a number: of CPU cores, or of bytes."""
    number = quantity.rstrip("".join(_UNITS))
    return float(number) * _UNITS[quantity.removeprefix(number)]
