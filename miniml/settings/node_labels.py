"""Reads which labels a cluster's node must have, from one argument."""

from __future__ import annotations

import re

from miniml.errors import InputError
from miniml.escaping import shown

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_LABEL_NAME = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", re.ASCII
)


def node_labels(argument: str, text: str) -> dict[str, str]:
    """Returns the labels by name.

    Args:
        argument: The argument's name, for messages.
        text: The labels, with commas between: "nvidia.com/gpu.product=NVIDIA-L4, zone=a".

    Raises:
        InputError: the text cannot be read.
    """
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in entry.partition("="))
        if not (equals and _LABEL_NAME.fullmatch(name) and _LABEL_VALUE.fullmatch(value)) or name in found:
            raise InputError(
                f"{argument} {shown(text)} cannot be read at {shown(entry)}. Write each label once, with commas "
                f"between: nvidia.com/gpu.product=NVIDIA-L4, zone=a."
            )
        found[name] = value
    return found
