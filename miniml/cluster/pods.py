"""Reads the status of pods: which container does not start, and whether it still may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from miniml.cluster.events import LONGEST
from miniml.escaping import clipped

Pod = dict[str, Any]

# ErrImagePull is not among them, as a second pull may succeed; if it fails too, the reason is ImagePullBackOff.
_FATAL_REASONS = frozenset(
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
"""The reason of a container that has crashed and waits to be started again."""


def containers(pod: Pod) -> Iterator[dict[str, Any]]:
    """Yields the statuses of the pod's containers, the init containers' first, as the others wait for them."""
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def has_ended(pod: Pod) -> bool:
    """Tells whether the pod has ended; an evicted pod, for example, stays in the cluster's list for a long time."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def start_error(pod: Pod, *, crashes: bool = False) -> str | None:
    """Returns why a container of the pod cannot start, or None if all may still start.

    Args:
        pod: The pod.
        crashes: Count a container that waits after a crash, too.
    """
    for container in containers(pod):
        waiting = container.get("state", {}).get("waiting", {})
        reason = waiting.get("reason")
        if reason in _FATAL_REASONS or (crashes and reason == CRASHES):
            return (
                f"container {container['name']!r} of pod {pod['metadata']['name']}: {reason} "
                f"{clipped(waiting.get('message', ''), LONGEST)}".rstrip()
            )
    return None


def unschedulable(pod: Pod) -> str | None:
    """Returns why the scheduler finds no node for the pod, or None."""
    for condition in conditions(pod):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return clipped(str(condition.get("message", "")), LONGEST)
    return None


def conditions(obj: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the conditions in an object's status; an object without a status has none."""
    found: list[dict[str, Any]] = obj.get("status", {}).get("conditions") or []
    return found


def is_true(obj: dict[str, Any], condition: str) -> bool:
    """Tells whether an object's condition of this type is true; one that is missing is not."""
    return any(entry["type"] == condition and entry["status"] == "True" for entry in conditions(obj))


def section(title: str, lines: list[str]) -> list[str]:
    """Returns the lines indented below a title, or nothing if there are none."""
    return [f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def best_effort(ask: Callable[[], list[str]]) -> list[str]:
    """Returns the lines that `ask` returns, or its error as a line.

    A request that only helps to explain a failure must not hide it by failing too.
    """
    try:
        return ask()
    except Exception as error:  # Every error is shown.
        return [f"(unavailable: {error})"]
