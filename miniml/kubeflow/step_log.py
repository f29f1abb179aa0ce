"""Finds the log of a step (in Kubeflow Pipelines, the cluster or the store), and the error at its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from miniml.errors import LONGEST_ERROR, TRACEBACK, MinimlError
from miniml.escaping import clipped, plain, plain_without_colours
from miniml.kubeflow.run_pods import pods_of
from miniml.kubeflow.run_server import RunServer
from miniml.kubeflow.run_state import RunState, Turn
from miniml.resource_names import NAMESPACE

if TYPE_CHECKING:
    from miniml.cluster.api import Cluster

BUCKET = "mlpipeline"
"""The bucket in which KFP stores artifacts, below v2/artifacts/<pipeline>/<run>/<task>/."""
_MAX_LINES = 15
# The lines of the log that are shown for a step that fails without an error message.
_LAST_LINES = 5
_LINES_OF_A_LOG = 1000
_ERROR = "error: "
# What KFP's launcher (klog) and Argo's executor print around the step's own lines.
_FOREIGN_LINE = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d|time=\S+ level=|Error: exit status \d+")
# The last line of the launcher or the driver. Where the step itself failed, it only repeats the exit status.
_GAVE_UP = re.compile(r"F\d{4} [\d:.]+ +\d+ \S+\] (?P<text>.*?)(?P<status>exit status \d+)?$")
_OURS = re.compile(r"^miniml\.errors\.\w+: ")
# Argo's message for a container of which only the exit status is known.
_BARE_EXIT = re.compile(r"(main: )?Error \(exit code \d+\)")


def log_of(server: RunServer, run: RunState, turn: Turn) -> tuple[str, list[str]]:
    """Reads the log of a step's last attempt.

    Args:
        server: The server that has the run.
        run: The run.
        turn: The turn of the stage.

    Returns:
        The log, empty where it was not found; and, for each source that was tried in vain, why it had none.
    """
    pod = turn.attempts[-1].pod if turn.attempts else ""
    sources: dict[str, Callable[[], str]] = {}
    if pod:
        nodes = f"/apis/v1alpha1/runs/{run.run_id}/nodes/{pod}/log"
        query = {"podname": pod, "podnamespace": NAMESPACE, "runid": run.run_id}
        sources["Kubeflow Pipelines"] = lambda: _as_log(server.text(nodes, {"follow": "false"}))
        sources["its UI"] = lambda: _as_log(server.text("/k8s/pod/logs", query))
    sources["the cluster"] = lambda: _pod_log(server.cluster, run.run_id, turn, pod)
    if "AWS_ENDPOINT_URL" in os.environ:
        sources["the store"] = lambda: _stored_log(server.pipeline_name(run.pipeline_id), run, turn.stage)
    return _first(sources)


def failure_of(server: RunServer, run: RunState, turn: Turn) -> str:
    """Returns why a step failed: the message of its pod, if it says more than the exit status, and the step's error.

    Args:
        server: The server that has the run.
        run: The run.
        turn: The turn of the stage.
    """
    parts = [] if not turn.message or _BARE_EXIT.fullmatch(turn.message) else [turn.message]
    log, refusals = log_of(server, run, turn)
    if error := error_of(log):
        parts.append(error)
    elif not parts:
        parts = [plain(line) for line in log.splitlines() if line.strip()][-_LAST_LINES:]
    reasons = "; ".join(refusals) or "it had no pod"
    return clipped("\n".join(parts), LONGEST_ERROR) or f"failed; its log was not found ({reasons})"


def error_of(log: str) -> str:
    """Returns the error at the end of a step's log, as `miniml run` shows it; empty where there is none.

    This is the error of KFP's launcher or driver around the step, or the last exception after a traceback, or the lines
    from `error: …` on.
    """
    lines = [plain_without_colours(line) for line in log.splitlines()]
    for gave_up in filter(None, map(_GAVE_UP.match, lines)):
        if not gave_up["status"]:
            return clipped(gave_up["text"], LONGEST_ERROR)
    own: list[str] = []
    for line in lines[_beginning(lines) :][:_MAX_LINES]:
        if _FOREIGN_LINE.match(line):
            break
        own.append(line)
    text = "\n".join(own).strip()
    return clipped(_OURS.sub("", text.removeprefix(_ERROR)), LONGEST_ERROR)


def _beginning(lines: list[str]) -> int:
    """Returns the index of the line at which the last error begins; the number of lines where there is none."""
    begins, in_traceback = len(lines), False
    for number, line in enumerate(lines):
        if line.startswith(TRACEBACK):
            in_traceback = True
        elif in_traceback and line.strip() and not line.startswith(" "):
            begins, in_traceback = number, False
        elif line.startswith(_ERROR):
            begins = number
    return begins


def _first(sources: dict[str, Callable[[], str]]) -> tuple[str, list[str]]:
    refusals: list[str] = []
    for name, read in sources.items():
        try:
            if log := read():
                return log, refusals
            refusals.append(f"{name} has none")
        except MinimlError as error:
            refusals.append(f"{name}: {clipped(str(error), 200)}")
    return "", refusals


def _as_log(text: str) -> str:
    """Returns the text, if it is a log, or an empty string.

    KFP's server always answers with status 200, with an error as JSON instead of the log (2.17.0, run_log_server.go),
    and its UI answers unknown requests with its page.

    Raises:
        MinimlError: The text is an error; the message is the server's.
    """
    if text.lstrip()[:15].lower().startswith(("<!doctype", "<html")):
        return ""
    if text.startswith('{"error_message"'):
        with contextlib.suppress(ValueError):  # A log may begin so, too.
            raise MinimlError(str(json.loads(text)["error_message"]))
    return text


def _pod_log(cluster: Cluster | None, run_id: str, turn: Turn, pod: str) -> str:
    """Returns the log of a step's pod, which is found by Argo's annotations where its name is unknown.

    Raises:
        MinimlError: The cluster cannot be reached.
    """
    if cluster is None:
        raise MinimlError("no kube configuration here leads to one")
    if not pod:
        own = pods_of(turn.stage, turn.number, cluster.pods_with(NAMESPACE, f"pipeline/runid={run_id}"))
        pod = own[-1]["metadata"]["name"] if own else ""
    return cluster.log(NAMESPACE, pod, "main", lines=_LINES_OF_A_LOG, previous=False) if pod else ""


def _stored_log(pipeline: str, run: RunState, stage: str) -> str:
    """Returns the log of the last attempt that KFP's launcher stored beside a step's outputs.

    Raises:
        MinimlError: There are several logs, and their addresses do not tell to which turn of a loop they belong.
    """
    from miniml.store.connection import RETRY_TIMEOUTS, Bucket  # Only here: nobody else needs an S3 client.

    bucket = Bucket(BUCKET, f"the log of {stage}", RETRY_TIMEOUTS)
    listed = bucket.listing(f"v2/artifacts/{pipeline}/{run.run_id}/{stage}/")
    keys = [stored.key for stored in listed if Path(stored.key).name.startswith("executor-logs")]
    if len({Path(key).parent for key in keys}) > 1:
        raise MinimlError(f"{stage} ran several times, and the logs do not tell which is whose")
    return (bucket.read(max(keys)) or b"").decode("utf-8", errors="replace") if keys else ""
