"""Runs a pipeline from Python, on this machine or on a cluster, and reads its results, in a notebook for example.

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
from miniml.settings.arguments import SETTINGS, as_inputs, flat

Answers = list[dict[str, Any]]


@dataclass(frozen=True)
class Results:
    """The results of a run, on this machine or on a cluster."""

    metrics: dict[str, Any]
    """The fields of `miniml.evaluation.result.EvaluationResult`: metrics, classes, confusion_matrix, ..."""
    report: str
    """The evaluation's report, as one page of HTML."""
    deployed: bool | None
    """Whether the gate approved the model; None where it is unknown."""
    ask: Callable[[list[str]], Answers]
    """Asks the served model over HTTP, and returns an answer for each text (see `miniml.tasks`)."""


class Run(ABC):
    """A run that was submitted."""

    @abstractmethod
    def wait(self) -> Results:
        """Waits until the run has ended, and returns its results.

        Raises:
            MinimlError: The run failed; the message says at which stage and why.
        """


def preset(name: str) -> dict[str, Any]:
    """Returns a copy of a named set of arguments; "demo" needs no access to the hub.

    Raises:
        KeyError: There is no preset of this name.
    """
    return dict(PRESETS[name].arguments)


def compile(pipeline: str = TEXT_CLASSIFICATION) -> str:  # as everybody calls it
    """Returns the pipeline of this name as YAML, for the Kubeflow UI or any kfp client."""
    return CompiledPipeline.named(pipeline).text


def submit(arguments: dict[str, Any], host: str | None = None, *, pipeline: str = TEXT_CLASSIFICATION) -> Run:
    """Submits a run of one of miniml's pipelines to Kubeflow Pipelines, or, where there is none, prepares one here.

    Args:
        arguments: The arguments by name, as `miniml run --help` lists them; missing ones have the pipeline's defaults.
        host: The address of Kubeflow Pipelines, by default KFP_HOST. Without any, the run takes place on this machine
            when `Run.wait` is called.
        pipeline: One of `miniml.pipeline.compiled.PIPELINES`.

    Raises:
        InputError: An argument cannot be used.
        AddressError: Kubeflow Pipelines does not answer at `host`.
        SubmissionError: Kubeflow Pipelines refuses the run.
    """
    compiled = CompiledPipeline.named(pipeline)
    known = defaults(compiled)
    if unknown := sorted(arguments.keys() - known.keys()):
        names = ", ".join(f"{name!r}{nearest(name, known)}" for name in unknown)
        raise InputError(
            f"the pipeline has no argument {names} (all there are: {program_of(compiled)} submit --help)"
        )
    every = {**known, **arguments}
    check_values(every)
    every = flat(every, SETTINGS)
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
        outcome = self.server.follow(self.run_id, self.version.stages, timeout=24 * 3600.0, show=print)
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
        """Returns the bucket and the folder of evaluate's outputs, which are another run's if they were cached."""
        for address in folders_of(self.server.workflow(self.run_id), "evaluate"):
            bucket, _, folder = address.partition("://")[2].partition("/")
            return bucket, folder
        # The workflow is not available; most evaluations are not cached.
        return BUCKET, f"v2/artifacts/{self.pipeline_name}/{self.run_id}/evaluate"

    def _read(self, bucket: str, folder: str, output: str) -> bytes:
        """Reads an output from KFP's store, whose address and keys AWS_ENDPOINT_URL and the credentials give."""
        from miniml.store.connection import (  # Only here: a local run needs no S3 client.
            RETRY_TIMEOUTS,
            Bucket,
        )

        store = Bucket(bucket, f"the {output} of run {self.run_id}", RETRY_TIMEOUTS)
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
