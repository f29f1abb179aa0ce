"""Trains on several nodes: a TrainJob of Kubeflow Trainer runs `miniml.train_step` in the image of this step.

The nodes share no disk, so they read the dataset from the S3 store that holds the run's artifacts, and write the model
to it. A retried step finds the job that its first attempt created, and follows it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from miniml.cluster.api import Cluster
from miniml.cluster.pods import Pod, is_true
from miniml.errors import ClusterError, InputError, TrainJobError
from miniml.files.digests import digest_of
from miniml.model import manifest
from miniml.model.manifest import Manifest
from miniml.progress import logger
from miniml.settings import command_line
from miniml.settings.nodes import NodeSettings
from miniml.settings.training import TrainingSettings
from miniml.signals import on_sigterm
from miniml.store.address import S3_SCHEME, S3Address, is_in_store, s3_address
from miniml.train_job.sdk import (
    INSTALL,
    MODEL,
    OLDEST_VERSION,
    Step,
    TrainJobRequest,
    job_path,
    own_pod,
    owners,
    submit,
)
from miniml.train_job.watch import InterruptedJobError, WatchTimeouts, follow

_SECONDS_TO_GO = 120.0


def fine_tune_on_nodes(
    dataset_uri: str,
    model_dir: Path,
    model_uri: str,
    settings: TrainingSettings,
    nodes: NodeSettings,
    step: Step,
    *,
    pins: str = "",
    cluster: Cluster | None = None,
    timeouts: WatchTimeouts | None = None,
) -> Manifest:
    """Trains as `fine_tune` does, on `settings.num_nodes` nodes, and prints the log of the first one.

    The job is deleted at its end, and when this process receives SIGTERM. It is kept for a retry if only this process
    has failed. If the job fails because nodes were lost too often, it is created again until `training_timeout`, and
    resumes from the nodes' checkpoint.

    Args:
        dataset_uri: The address of the prepared dataset.
        model_dir: The folder to which the model is downloaded.
        model_uri: The address to which the nodes write the model.
        settings: The settings of the training.
        nodes: The settings of the nodes.
        step: The container of this step.
        pins: The pins of the sources, as `miniml.sources.pins.Pins.written` returns them.
        cluster: The cluster; None connects to the one that this pod runs in.
        timeouts: The time limits.

    Raises:
        InputError: the processes cannot share a batch evenly, or the artifacts are not in an S3 store.
        TrainJobError: the training failed. The message has the reason, or conditions, events and logs.
        ClusterError: Kubeflow Trainer is not installed or refuses the job, or the API server did not answer.
        StoreError: the model cannot be downloaded.
        ModelFolderError: the model is damaged.
        StorageError: the disk does not have enough space for the model.
    """
    _require_shares(settings, nodes)
    dataset, model = _in_the_store("dataset", dataset_uri), _in_the_store("model", model_uri)
    cluster, timeouts = cluster or Cluster.connect(), timeouts or WatchTimeouts()
    pod = own_pod(cluster, step)
    name = _name(dataset, settings, nodes, pod)
    path = job_path(step.namespace, name)
    words = [
        str(dataset),
        str(model),
        *command_line.words_of(settings),
        *([f"--pins={pins}"] if pins else []),
    ]
    request = TrainJobRequest(name, words, settings.num_nodes, nodes, str(model))
    with on_sigterm(_end), _cleaned_up(cluster, path, nodes.keep_train_job):
        deadline = time.monotonic() + nodes.training_timeout
        while True:
            job = _existing_job(cluster, path, timeouts)
            if job is None:
                ready_within = (timeouts.not_ready, timeouts.poll_interval)
                submit(cluster, request, pod, step.container, ready_within)
                job = _created(cluster, path)
            try:
                follow(cluster, step.namespace, name, settings.num_nodes, timeouts)
                break
            except InterruptedJobError as error:
                if time.monotonic() > deadline:
                    raise
                summary, *_ = str(error).splitlines()
                logger.info(
                    f"{summary}. Nodes were lost: creating the TrainJob again, to go on from their checkpoint"
                )
        return _fetch(s3_address("model", job["metadata"]["annotations"][MODEL]), model_dir)


def _require_shares(settings: TrainingSettings, nodes: NodeSettings) -> None:
    processes = settings.num_nodes * nodes.processes_per_node
    if settings.batch_size % processes:
        raise InputError(
            f"batch_size is {settings.batch_size}, and {processes} processes (num_nodes {settings.num_nodes}, "
            f"{nodes.processes_per_node} on each) cannot share it evenly. Give a multiple of {processes}."
        )


def _in_the_store(artifact: str, uri: str) -> S3Address:
    """Returns the address of an artifact; KFP writes minio:// for the S3 store of its cluster."""
    address = S3_SCHEME + uri.removeprefix("minio://") if uri.startswith("minio://") else uri
    if address != uri and not os.environ.get("AWS_ENDPOINT_URL"):
        raise InputError(
            f"the {artifact} of this run is at {uri}, in KFP's own store, and AWS_ENDPOINT_URL does not tell the nodes "
            f"where that is. Create the secret with the variable by manifests/s3-secret.sh."
        )
    if not is_in_store(address):
        raise InputError(
            f"the {artifact} of this run is at {uri}, which the nodes of a TrainJob cannot reach: they share no disk. "
            f"Set the pipeline root to an S3 store (minio:// or s3://), or leave num_nodes at 1."
        )
    return s3_address(artifact, address)


def _name(dataset: S3Address, settings: TrainingSettings, nodes: NodeSettings, pod: Pod) -> str:
    """Returns a name that all attempts of one training share, and no other training of the run."""
    run = next(iter(owners(pod)), pod["metadata"])["uid"]
    identity = {"run": run, "dataset": str(dataset), "training": asdict(settings), "nodes": asdict(nodes)}
    return f"miniml-{digest_of(identity)[:16]}"


def _end() -> None:
    """Raises SystemExit, so that the block cleans up."""
    raise SystemExit(128 + signal.SIGTERM)


@contextmanager
def _cleaned_up(cluster: Cluster, path: str, keep: bool) -> Iterator[None]:
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        # Without waiting: a step has little time after SIGTERM.
        with suppress(ClusterError):
            cluster.delete(path)
        raise
    except TrainJobError:
        if not keep:
            with suppress(ClusterError):  # A failure to delete must not hide the reason.
                cluster.delete(path)
        raise
    if not keep:
        cluster.delete(path)


def _existing_job(cluster: Cluster, path: str, timeouts: WatchTimeouts) -> dict[str, Any] | None:
    """Returns the job that an earlier attempt of this step created; one that has failed is deleted instead."""
    job = cluster.get(path)
    if job is None:
        return None
    name = job["metadata"]["name"]
    if not is_true(job, "Failed") and "deletionTimestamp" not in job["metadata"]:
        logger.info(f"TrainJob {name} is there already, made by an earlier try of this step: following it")
        return job
    cluster.delete(path)
    deadline = time.monotonic() + _SECONDS_TO_GO
    while cluster.get(path) is not None:
        if time.monotonic() > deadline:
            raise TrainJobError(
                f"TrainJob {name} of an earlier try was deleted, and is still there after {_SECONDS_TO_GO:.0f} s. "
                f"Look at what holds it: kubectl get trainjob {name} -o yaml."
            )
        time.sleep(timeouts.poll_interval)
    return None


def _created(cluster: Cluster, path: str) -> dict[str, Any]:
    job = cluster.get(path)
    if job is None:
        raise TrainJobError(
            f"{path} was made, and is gone already. Somebody deletes TrainJobs here: look who."
        )
    if not job["spec"].get("runtimePatches"):
        # An API server drops the fields that it does not know: the pods would have no credentials.
        raise TrainJobError(f"the cluster's Kubeflow Trainer is older than {OLDEST_VERSION}. {INSTALL}.")
    return job


def _fetch(model: S3Address, model_dir: Path) -> Manifest:
    from miniml.store import repository  # Only here: a training on one machine needs no S3 client.

    repository.fetch(model, model_dir)
    return manifest.verify(model_dir)
