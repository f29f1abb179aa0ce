"""What pods say of themselves: which container waits for what, and whether time will mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from miniml.cluster.events import LONGEST
from miniml.escaping import clipped

Pod = dict[str, Any]

# ErrImagePull is not among them: the first try of a pull may fail, and the second one then says ImagePullBackOff.
_NEVER_STARTS = frozenset(
    {
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
CRASHES = "CrashLoopBackOff"
"""What a container waits for that has ended and will be started again."""


def containers(pod: Pod) -> Iterator[dict[str, Any]]:
    """Their states, the init containers' first: they are what the others wait for."""
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def has_ended(pod: Pod) -> bool:
    """Whether it serves nobody any more: one that was evicted stays in the list, with its reason, for a long time."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def never_starts(pod: Pod, *, nor_again: bool = False) -> str | None:
    """Why time will not start one of its containers, if so; with `nor_again` a crash counts as a reason."""
    for container in containers(pod):
        waiting = container.get("state", {}).get("waiting", {})
        reason = waiting.get("reason")
        if reason in _NEVER_STARTS or (nor_again and reason == CRASHES):
            return (
                f"container {container['name']!r} of pod {pod['metadata']['name']}: {reason} "
                f"{clipped(waiting.get('message', ''), LONGEST)}".rstrip()
            )
    return None


def unschedulable(pod: Pod) -> str | None:
    """Why it finds no node, if so."""
    for condition in conditions(pod):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return clipped(str(condition.get("message", "")), LONGEST)
    return None


def conditions(thing: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a pod, or of any other object that has some."""
    found: list[dict[str, Any]] = thing.get("status", {}).get("conditions") or []
    return found


def is_true(thing: dict[str, Any], condition: str) -> bool:
    return any(entry["type"] == condition and entry["status"] == "True" for entry in conditions(thing))


def listed(title: str, lines: list[str]) -> list[str]:
    """The lines under a title, for a message; nothing where there are none."""
    return [f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def tried(ask: Callable[[], list[str]]) -> list[str]:
    """What is asked for only to explain a failure must not hide it by failing too."""
    try:
        return ask()
    except Exception as error:  # whatever it is, it is shown
        return [f"(not to be had: {error})"]
