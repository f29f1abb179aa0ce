"""Picks the warning events that explain why a rollout does not go on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from miniml.cluster.inference_service import predictor_name
from miniml.escaping import clipped

Event = dict[str, Any]

MAX_EVENTS = 5
"""The maximum number of events in a message."""
LONGEST = 500
"""The maximum number of characters of a cluster's message that are shown: a webhook may quote a whole object."""
_AUTOSCALER = "HorizontalPodAutoscaler"
_NEAREST = ("Pod", "ReplicaSet", "Deployment", "InferenceService")
"""The objects of a service in Standard mode, from its pods up; a ReplicaSet's events show what a quota refused."""


def of_rollout(events: Iterable[Event], service: str, pods: set[str], since: str) -> list[Event]:
    """Returns the events of a service's new revision: those of the pods first, and of each kind the newest last.

    The autoscaler's events count only if there are no others: it warns of missing metrics while no pod is ready.

    Args:
        events: The warning events of a namespace, the newest last.
        service: The InferenceService's name.
        pods: The names of the new revision's pods.
        since: When the revision was applied (RFC 3339): earlier events are about another revision, except a pod's. ""
            leaves none out.
    """
    predictor = predictor_name(service)
    names = {
        "Pod": "|".join(map(re.escape, pods)),
        "ReplicaSet": re.escape(predictor) + "-[a-z0-9]+",
        "InferenceService": re.escape(service),
    }
    found: dict[str, list[Event]] = {}
    for event in events:
        kind = event["involvedObject"].get("kind", "")
        name = event["involvedObject"].get("name", "")
        if re.fullmatch(names.get(kind, re.escape(predictor)), name) and (
            kind == "Pod" or time_of(event)[:19] >= since[:19]
        ):
            found.setdefault(kind, []).append(event)
    metrics = found.pop(_AUTOSCALER, [])
    nearest = [event for kind in (*_NEAREST, *found) for event in found.pop(kind, [])]
    return nearest or metrics


def time_of(event: Event) -> str:
    """Returns when the event happened last (RFC 3339), or "" if unknown."""
    last = (event.get("series") or {}).get("lastObservedTime")
    return str(last or event.get("lastTimestamp") or event.get("eventTime") or "")


def line(event: Event) -> str:
    """Returns the event as one line: the object's name, the reason and the message."""
    text = clipped(event.get("message", ""), LONGEST)
    return f"{event['involvedObject'].get('name', '')}: {event.get('reason', '')}: {text}"


def message(event: Event) -> str:
    """Returns the event's message, without the prefix by which it differs from the Deployment's condition."""
    return clipped(event.get("message", "").removeprefix("Error creating: "), LONGEST)


def without_repetitions(known: str, lines: Iterable[tuple[str, str]]) -> list[str]:
    """Returns the lines whose message is neither in `known` nor in a line before.

    Messages that differ only in the name of a pod or ReplicaSet of one Deployment count as equal.

    Args:
        known: What has been said already.
        lines: Pairs of a line and the message in it.
    """
    seen, kept = _any_pods(known), []
    for text, said in lines:
        if _any_pods(said) not in seen:
            kept.append(text)
            seen += "\n" + _any_pods(said)
    return kept


def _any_pods(text: str) -> str:
    """Replaces the random parts of pods' and ReplicaSets' names."""
    return re.sub(r"-predictor-[a-z0-9]+(-[a-z0-9]+)?", "-predictor-…", text)
