"""A cluster with Kubeflow Trainer: TrainJobs that become pods, and pods whose logs can be followed as they are written.

What becomes of a job is the test's to say: a fate, of which each look at the job is a step.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from miniml.train_job.sdk import API_VERSION, NODE
from tests import crds
from tests.kubernetes_server import KubernetesServer, failure

NAMESPACE = "kubeflow"
SCHEMA = Path(__file__).parent / "trainjob_schema.json"

_JOBS = re.compile(rf"/apis/{API_VERSION}/namespaces/[\w-]+/trainjobs(?:/([\w-]+))?")
_PODS = re.compile(r"/api/v1/namespaces/[\w-]+/pods")
_LOG = re.compile(r"/api/v1/namespaces/[\w-]+/pods/([\w-]+)/log")
_RESERVED = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}

_NO_WEBHOOK = (
    'Internal error occurred: failed calling webhook "defaulter.trainjob.trainer.kubeflow.org": failed to '
    "call webhook: "
    'Post "https://kubeflow-trainer-controller-manager.kubeflow-system.svc:443/'
    'mutate-trainer-kubeflow-org-v1alpha1-trainjob?timeout=10s": dial tcp 10.96.7.1:443: connect: connection refused'
)
"""k8s.io/apiserver v0.36: pkg/admission/plugin/webhook/mutating/dispatcher.go makes an InternalError (500) of it."""

JobFate = Callable[["TrainerServer", dict[str, Any]], Iterator[None]]


class Log:
    """What one start of a container prints, each line three tenths of a second after the one before."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()

    def write(self, *lines: str) -> None:
        with self._news:
            for line in lines:
                time = self._start + timedelta(seconds=0.3 * len(self._lines))
                self._lines.append(f"{time:%Y-%m-%dT%H:%M:%S.%f}Z {line}\n")
            self._news.notify_all()

    def end(self) -> None:
        with self._news:
            self._ended = True
            self._news.notify_all()

    def since(self, second: str, *, follow: bool) -> Iterator[str]:
        """As the API server sends it: lines of that second and later ones, and then, to follow, those to come."""
        for number in itertools.count():
            with self._news:
                while follow and number == len(self._lines) and not self._ended:
                    self._news.wait()
                if number == len(self._lines):
                    return
                line = self._lines[number]
            if line[:19] >= second[:19]:
                yield line


@dataclass
class TrainerServer(KubernetesServer):
    """One cluster with the runtime torch-distributed and the pod of a step."""

    fate: JobFate | None = None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    """Every TrainJob that was created, as it was sent."""
    logs: dict[str, list[Log]] = field(default_factory=dict)
    """By pod, that of each start of its container."""
    log_cuts: list[int] = field(default_factory=list)
    """After so many lines the next log breaks off."""
    old_trainer: bool = False
    """Drops runtimePatches, as an API server does with what a CRD does not know."""
    webhook_away: int = 0
    """So many of the next TrainJobs are refused because Trainer's webhook (failurePolicy Fail) does not answer, as for
    some 90 s after its start (issue 18, section 7)."""
    _job_steps: dict[str, Iterator[None]] = field(default_factory=dict)
    _replaced: int = 0

    def __post_init__(self) -> None:
        runtime = {
            "apiVersion": API_VERSION,
            "kind": "ClusterTrainingRuntime",
            "metadata": {
                "name": "torch-distributed",
                "labels": {"trainer.kubeflow.org/framework": "torch"},
            },
            "spec": {"mlPolicy": {"numNodes": 1, "torch": {}}, "template": {"spec": _RUNTIME_JOBS}},
        }
        self.objects |= {
            f"/apis/{API_VERSION}": {"resources": [{"name": "trainjobs"}]},
            "/apis/jobset.x-k8s.io/v1alpha2": {"resources": [{"name": "jobsets"}]},
            f"/apis/{API_VERSION}/clustertrainingruntimes/torch-distributed": runtime,
            f"/api/v1/namespaces/{NAMESPACE}/pods/a-step": _STEP,
        }

    def route(
        self, method: str, path: str, query: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, Any] | None:
        if found := _JOBS.fullmatch(path):
            verb = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]
            if f"{verb} trainjobs" in self.denied:
                return 403, failure(
                    403,
                    f'trainjobs.trainer.kubeflow.org is forbidden: User "system:serviceaccount:kubeflow:'
                    f'pipeline-runner" cannot {verb} resource "trainjobs"',
                )
            if f"/apis/{API_VERSION}" not in self.objects:
                return 404, "404 page not found"
            dry = query.get("dryRun") == "All"
            return self._create(body, dry) if verb == "create" else self._job(verb, found[1], body)
        if _PODS.fullmatch(path) and "jobset.sigs.k8s.io" in query.get("labelSelector", ""):
            wanted = dict(label.split("=") for label in query["labelSelector"].split(","))
            return 200, {
                "items": [pod for pod in self.pods if wanted.items() <= pod["metadata"]["labels"].items()]
            }
        if (found := _LOG.fullmatch(path)) and found[1] in self.logs:
            return 200, self._log(self.logs[found[1]], query)
        return None

    def set_condition(self, job: dict[str, Any], kind: str, reason: str, message: str) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        job.setdefault("status", {}).setdefault("conditions", []).append(condition)

    def start(self, job: dict[str, Any], **state: Any) -> list[dict[str, Any]]:
        """The pods of a job, running unless something else is said of their containers."""
        name = job["metadata"]["name"]
        status = {"name": NODE, "restartCount": 0, "state": {"running": {}}, **state}
        pods = [
            {
                "metadata": {
                    "name": f"{name}-node-0-{rank}-x7x7x",
                    "namespace": NAMESPACE,
                    "creationTimestamp": "2026-08-01T00:00:00Z",
                    "labels": {
                        "jobset.sigs.k8s.io/jobset-name": name,
                        "jobset.sigs.k8s.io/replicatedjob-name": NODE,
                        "batch.kubernetes.io/job-completion-index": str(rank),
                    },
                },
                "status": {"containerStatuses": [dict(status)]},
            }
            for rank in range(job["spec"]["trainer"]["numNodes"])
        ]
        self.pods = pods
        for pod in pods:
            self.restart(pod)
        return pods

    def restart(self, pod: dict[str, Any]) -> Log:
        """The log of a new start of the pod's container."""
        logs = self.logs.setdefault(pod["metadata"]["name"], [])
        logs.append(Log(datetime(2026, 8, 1, len(logs), tzinfo=UTC)))
        return logs[-1]

    def log_of(self, pod: dict[str, Any]) -> Log:
        return self.logs[pod["metadata"]["name"]][-1]

    def end(self, pod: dict[str, Any], code: int, reason: str = "", message: str = "") -> None:
        """Ends the pod's container; `message` is what it left in /dev/termination-log."""
        self.log_of(pod).end()
        (status,) = pod["status"]["containerStatuses"]
        ended = {"exitCode": code, "reason": reason or ("Error" if code else "Completed")}
        status["state"] = {"terminated": ended | ({"message": message} if message else {})}

    def start_again(self, pod: dict[str, Any]) -> None:
        """What the kubelet does where the restartPolicy is OnFailure, which JobSet sets where the runtime sets none
        (kubernetes-sigs/jobset v0.12.0, pkg/webhooks/jobset_webhook.go, Default). The back-off of 10 s is left out."""
        (status,) = pod["status"]["containerStatuses"]
        status["lastState"] = status["state"]
        status |= {"state": {"running": {}}, "restartCount": status["restartCount"] + 1}
        self.restart(pod)

    def replace(self, pod: dict[str, Any]) -> dict[str, Any]:
        """What Kubernetes' Job controller does for a pod that was deleted or evicted: another of the same index."""
        name = pod["metadata"]["name"].removesuffix("-x7x7x")
        self._replaced += 1
        metadata = {
            **pod["metadata"],
            "name": f"{name}-y{self._replaced}",
            "creationTimestamp": f"2026-08-01T00:00:{self._replaced:02}Z",
        }
        status = {"name": NODE, "restartCount": 0, "state": {"running": {}}}
        new = {"metadata": metadata, "status": {"containerStatuses": [status]}}
        self.pods = [each for each in self.pods if each is not pod] + [new]
        self.restart(new)
        return new

    def _log(self, logs: list[Log], query: dict[str, str]) -> Iterator[str | None]:
        previous = query.get("previous") == "true"
        log = logs[-2 if previous else -1]
        cut = self.log_cuts.pop(0) if self.log_cuts and not previous else None
        for number, line in enumerate(log.since(query.get("sinceTime", ""), follow="follow" in query)):
            if number == cut:
                yield line[:30]  # In the middle of one.
                yield None
            yield line if query.get("timestamps") else line.partition(" ")[2]

    def _create(self, given: dict[str, Any], dry: bool) -> tuple[int, Any]:
        if self.webhook_away:
            self.webhook_away -= 1
            return 500, failure(500, _NO_WEBHOOK)
        # The API server knows all fields of metadata by itself; a TrainJob's schema names none of them.
        metadata = {name: value for name, value in given["metadata"].items() if name != "namespace"}
        refused = _refusal({**given, "metadata": metadata})
        if refused:
            return 422, failure(422, refused)
        name = given["metadata"]["name"]
        if name in self.jobs:
            return 409, failure(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        if dry:
            return 201, given
        self.made.append(given)
        job = json.loads(json.dumps(given))
        job["metadata"] |= {"namespace": NAMESPACE, "uid": "u1", "creationTimestamp": "2026-08-01T00:00:00Z"}
        if self.old_trainer:
            del job["spec"]["runtimePatches"]
        self.jobs[name] = job
        if self.fate:
            self._job_steps[name] = self.fate(self, job)
        return 201, job

    def _job(self, verb: str, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        job = self.jobs.get(name)
        if job is None:
            return 404, failure(404, f'trainjobs.trainer.kubeflow.org "{name}" not found')
        if verb == "delete":
            del self.jobs[name]
            for logs in self.logs.values():
                for log in logs:
                    log.end()
            self.pods = []
        elif verb == "patch":
            job["metadata"] |= body["metadata"]
        else:
            next(self._job_steps.get(name, iter(())), None)
        return 200, job


def _refusal(job: dict[str, Any]) -> str:
    """What the API server and Trainer's webhook would say against it; "" if they would take it."""
    try:
        _validator().validate(job)
    except jsonschema.ValidationError as error:
        return f"{error.json_path}: {error.message}"
    if TrainerV1alpha1TrainJob.from_dict(job).to_dict() != job:
        return "it has fields that Kubeflow's own model of a TrainJob does not know"
    # These two are code of the webhook: pkg/runtime/framework/plugins, torch/torch.go and jobset/jobset.go.
    if reserved := _RESERVED & {entry["name"] for entry in job["spec"].get("trainer", {}).get("env", [])}:
        return f"must not have reserved envs, invalid envs configured: {sorted(reserved)}"
    for patch in job["spec"].get("runtimePatches", []):
        for each in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            for container in each["template"]["spec"]["template"]["spec"]["containers"]:
                if container.get("env"):
                    return (
                        "must not have envs for the dataset-initializer, model-initializer, node containers"
                    )
    return ""


@cache
def _validator() -> jsonschema.Draft7Validator:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return jsonschema.Draft7Validator(crds.strict(schema["schema"]))


_RUNTIME_JOBS = {
    "replicatedJobs": [
        {
            "name": NODE,
            "template": {
                "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                "spec": {"template": {"spec": {"containers": [{"name": NODE, "image": "pytorch/pytorch"}]}}},
            },
        }
    ]
}
_STEP = {
    "metadata": {
        "name": "a-step",
        "namespace": NAMESPACE,
        "uid": "pod-1",
        "ownerReferences": [
            {
                "apiVersion": "argoproj.io/v1alpha1",
                "kind": "Workflow",
                "name": "a-run",
                "uid": "workflow-1",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    },
    "spec": {
        "containers": [
            {"name": "wait", "image": "argoexec"},
            {"name": "main", "image": "registry.example/miniml-train:1"},
        ],
        "imagePullSecrets": [{"name": "registry"}],
    },
}
