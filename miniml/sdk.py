"""miniml from Python, as a notebook uses it: one way to run the pipeline here or on a cluster, and to read it.

run = sdk.submit({"dataset_id": "...", "model_id": "..."})   # on the cluster at KFP_HOST, or else here
results = run.wait()
results.metrics, results.report, results.ask(["a text"])
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from miniml.cluster.api import BRIEFLY, Cluster
from miniml.command_line import nearest
from miniml.deployment.smoke_test import ask_by_name
from miniml.errors import InputError
from miniml.kubeflow.run_artifacts import folders_of
from miniml.kubeflow.step_log import BUCKET
from miniml.kubeflow.submission import Server, SubmissionError, Version, require_reachable_from_pods
from miniml.local import job
from miniml.local.ask import ask, serving_in_a_process
from miniml.pipeline.arguments import check_values, defaults
from miniml.pipeline.compiled import TEXT_CLASSIFICATION, CompiledPipeline
from miniml.pipeline.names import program_of
from miniml.pipeline.presets import PRESETS
from miniml.resource_names import PIPELINE_ACCOUNT
from miniml.settings.arguments import as_inputs

Answers = list[dict[str, Any]]


@dataclass(frozen=True)
class Results:
    """What came of a run, wherever it ran."""

    metrics: dict[str, Any]
    """What `miniml.evaluation.result.EvaluationResult` holds: figures, classes, confusion_matrix, ..."""
    report: str
    """One page of HTML."""
    deployed: bool | None
    """Whether the gate let the model through; None where Kubeflow Pipelines does not tell."""
    ask: Callable[[list[str]], Answers]
    """Asks the served model over HTTP: what the task answers of each text (see `miniml.model.heads`)."""


class Run(ABC):
    """A run that was submitted."""

    @abstractmethod
    def wait(self) -> Results:
        """Follows the run to its end, and gives what came of it.

        Raises:
            MinimlError: it failed; the message says at which stage and why.
        """


def preset(name: str) -> dict[str, Any]:
    """A named set of arguments: "demo" needs no hub."""
    return dict(PRESETS[name].arguments)


def compile(pipeline: str = TEXT_CLASSIFICATION) -> str:  # as everybody calls it
    """The pipeline of that name as YAML, which the Kubeflow UI and any kfp client take."""
    return CompiledPipeline.named(pipeline).text


def submit(arguments: dict[str, Any], host: str | None = None, *, pipeline: str = TEXT_CLASSIFICATION) -> Run:
    """Submits a run of one of miniml's pipelines to Kubeflow Pipelines, or, where there is none, prepares one here.

    Args:
        arguments: By name, as `miniml run --help` lists them; those that are not given have the pipeline's defaults.
        host: Where Kubeflow Pipelines answers, by default KFP_HOST. Without any, the run is made on this machine, when
            it is waited for.
        pipeline: One of `miniml.pipeline.compiled.PIPELINES`.

    Raises:
        InputError: an argument cannot be used.
        SubmissionError: the cluster does not take the run.
    """
    compiled = CompiledPipeline.named(pipeline)
    known = defaults(compiled)
    if unknown := sorted(arguments.keys() - known.keys()):
        told = ", ".join(f"{name!r}{nearest(name, known)}" for name in unknown)
        raise InputError(
            f"the pipeline has no argument {told} (all there are: {program_of(compiled)} submit --help)"
        )
    every = {**known, **arguments}
    check_values(every)
    host = os.environ.get("KFP_HOST", "") if host is None else host
    if not host:
        return _LocalRun(compiled, every)
    require_reachable_from_pods(every)
    server = Server.connect(host)
    version = server.upload(compiled)
    name = f"{every['service_name']} {datetime.now():%Y-%m-%d %H:%M:%S}"
    run_id = server.start(version, as_inputs(every), name=name, service_account=PIPELINE_ACCOUNT)
    print(f"run {name}: {server.address(run_id)}")
    return _ClusterRun(server, version, run_id, compiled.name, every)


@dataclass(frozen=True)
class _LocalRun(Run):
    pipeline: CompiledPipeline
    arguments: dict[str, Any]

    def wait(self) -> Results:
        finished = job.run(self.pipeline, self.arguments, questions=[])
        folder, name = finished.folder.resolve(), self.arguments["service_name"]
        return Results(
            metrics=json.loads((finished.folder / "metrics.json").read_text(encoding="utf-8")),
            report=(folder / "report.html").read_text(encoding="utf-8"),
            deployed=finished.summary["verdict"] == "approved",
            ask=lambda texts: ask(serving_in_a_process, folder / "model", name, texts),
        )


@dataclass(frozen=True)
class _ClusterRun(Run):
    server: Server
    version: Version
    run_id: str
    pipeline_name: str
    arguments: dict[str, Any]

    def wait(self) -> Results:
        outcome = self.server.follow(self.run_id, self.version.stages, timeout=24 * 3600.0, tell=print)
        if outcome.state != "SUCCEEDED":
            raise SubmissionError(self.server.explanation(outcome))
        bucket, folder = self._evaluation()
        return Results(
            metrics=json.loads(self._read(bucket, folder, "metrics")),
            report=self._read(bucket, folder, "report").decode("utf-8"),
            deployed=None if outcome.deployment == "unknown" else outcome.deployment != "rejected",
            ask=self._ask,
        )

    def _evaluation(self) -> tuple[str, str]:
        """The bucket, and the folder in it, in which what evaluate wrote lies: with another run, if it was cached."""
        for address in folders_of(self.server.workflow(self.run_id), "evaluate"):
            bucket, _, folder = address.partition("://")[2].partition("/")
            return bucket, folder
        # Nobody has the workflow any more, or not yet; most evaluations are this run's own.
        return BUCKET, f"v2/artifacts/{self.pipeline_name}/{self.run_id}/evaluate"

    def _read(self, bucket: str, folder: str, output: str) -> bytes:
        """What lies below a folder of KFP's own store: AWS_ENDPOINT_URL and credentials say where that is from here."""
        from miniml.store.connection import PATIENCE, Bucket  # Only here: a local run needs no S3 client.

        store = Bucket(bucket, f"the {output} of run {self.run_id}", PATIENCE)
        for stored in store.listing(f"{folder}/"):
            if Path(stored.key).name == output:
                return store.read(stored.key) or b""
        raise SubmissionError(
            f"the run left no {output} below s3://{bucket}/{folder}. The UI shows where it lies: "
            f"{self.server.address(self.run_id)}"
        )

    def _ask(self, texts: list[str]) -> Answers:
        namespace, name = self.arguments["namespace"], self.arguments["service_name"]
        return ask_by_name(Cluster.connect(BRIEFLY), namespace, name, texts)
