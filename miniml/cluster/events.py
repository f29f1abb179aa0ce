"""What a cluster warned of while a service was rolled out: what is nearest to its pods first, each thing once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from miniml.cluster.inference_service import predictor_name
from miniml.escaping import clipped

Event = dict[str, Any]

MAX_EVENTS = 5
LONGEST = 500
"""Characters of a message that are told: a webhook may quote a whole object."""
_AUTOSCALER = "HorizontalPodAutoscaler"
_NEAREST = ("Pod", "ReplicaSet", "Deployment", "InferenceService")
"""What KServe makes of a service in Standard mode, from its pods up; a quota's refusal is told of the ReplicaSet."""


def of_rollout(events: Iterable[Event], service: str, pods: set[str], since: str) -> list[Event]:
    """The events of a service's new revision, the nearest to its pods first and of each kind the newest last.

    The autoscaler has the Deployment's name and warns of missing metrics for as long as no pod is ready: it is listened
    to only where nobody else has said anything.

    Args:
        events: a namespace's warnings, the newest last.
        service: the InferenceService's name.
        pods: the names of the new revision's pods.
        since: when it was applied (RFC 3339); what was said before is of another revision. "" is always.
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
    """When it happened last, or "" where nobody knows."""
    last = (event.get("series") or {}).get("lastObservedTime")
    return str(last or event.get("lastTimestamp") or event.get("eventTime") or "")


def line(event: Event) -> str:
    message = clipped(event.get("message", ""), LONGEST)
    return f"{event['involvedObject'].get('name', '')}: {event.get('reason', '')}: {message}"


def news(event: Event) -> str:
    """What its message tells: of a pod that was refused what the Deployment's condition says, behind some words."""
    return clipped(event.get("message", "").removeprefix("Error creating: "), LONGEST)


def each_once(told: str, lines: Iterable[tuple[str, str]]) -> list[str]:
    """Of pairs of a line and what is new in it, the lines whose news neither `told` nor a line before has told yet.

    One pod's news are another's: the names of a Deployment's pods and ReplicaSets differ in their endings only.
    """
    known, kept = _any_pods(told), []
    for text, substance in lines:
        if _any_pods(substance) not in known:
            kept.append(text)
            known += "\n" + _any_pods(substance)
    return kept


def _any_pods(text: str) -> str:
    return re.sub(r"-predictor-[a-z0-9]+(-[a-z0-9]+)?", "-predictor-…", text)
