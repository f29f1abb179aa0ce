"""Training on several nodes: the TrainJob that the train step makes, follows, and clears away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from miniml.cluster.api import Cluster, ForbiddenError
from miniml.errors import ClusterError, InputError, TrainJobError
from miniml.exit_status import ExitStatus
from miniml.files.checksums import CHECKSUMS_NAME
from miniml.model import manifest
from miniml.model.manifest import Manifest
from miniml.resource_names import GPU_TOLERATION, S3_SECRET
from miniml.settings.nodes import NodeSettings
from miniml.settings.training import TrainingSettings
from miniml.store import repository
from miniml.store.address import s3_address
from miniml.train_job.sdk import API_VERSION, Step
from miniml.train_job.train_on_nodes import fine_tune_on_nodes
from miniml.train_job.watch import WatchTimeouts
from tests import tiny
from tests.command import ROOT
from tests.conftest import TRAINING
from tests.s3_server import WRITER, S3Server
from tests.trainer_nodes import TrainerNodes
from tests.trainer_server import NAMESPACE, TrainerServer

STEP = Step(NAMESPACE, "a-step", "main")
SETTINGS = TrainingSettings(batch_size=16, num_nodes=2)
QUICK = WatchTimeouts(poll_interval=0.01, idle=0.1, no_pods=10.0, unreachable=0.3)
BUCKET = "artifacts"
CHECKPOINTS = "miniml/checkpoints/"
DATASET, MODEL = f"minio://{BUCKET}/run-1/dataset", f"minio://{BUCKET}/run-1/train/model"

Job = dict[str, Any]
Train = Callable[..., Manifest]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_classifier(tmp_path_factory.mktemp("trained") / "model")


@pytest.fixture(scope="session")
def bucket(s3_server: S3Server) -> Minio:
    client = s3_server.client()
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    return client


@pytest.fixture
def server(
    s3_server: S3Server, bucket: Minio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TrainerServer]:
    """A cluster and its store, as the environment of a step names them."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRITER[1])
    with TrainerServer(lambda text: {}) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.write_kubeconfig(tmp_path / "kubeconfig")))
        yield running


@pytest.fixture
def train(server: TrainerServer, tmp_path: Path) -> Train:
    """Does what the train step does."""

    def run(
        settings: TrainingSettings = SETTINGS, nodes: NodeSettings | None = None, **others: Any
    ) -> Manifest:
        given: dict[str, Any] = {"dataset_uri": DATASET, "model_uri": MODEL, "step": STEP, "timeouts": QUICK}
        return fine_tune_on_nodes(
            model_dir=tmp_path / "model",
            settings=settings,
            nodes=nodes or NodeSettings(),
            cluster=Cluster.connect(retry_after=(0.01,)),
            **{**given, **others},
        )

    return run


def completes(model: Path, *lines: str) -> Callable[[TrainerServer, Job], Iterator[None]]:
    """The nodes say these lines and put the model where they were told to."""

    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        yield
        pods = server.start(job)
        server.log_of(pods[0]).write(*lines)
        yield
        repository.put(model, s3_address("MODEL", job["spec"]["trainer"]["args"][1]))
        for pod in pods:
            server.end(pod, 0)
        yield
        server.set_condition(job, "Complete", "JobsCompleted", "jobset completed successfully")
        yield

    return fate


def fails(*lines: str, node: int = 0, code: int = ExitStatus.FAILED, message: str = "") -> Any:
    """One of the nodes says these lines and ends; the job may go on for long."""

    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        pods = server.start(job)
        server.log_of(pods[node]).write(*lines)
        server.end(pods[node], code, message=message)
        for pod in pods:
            server.log_of(pod).end()
        yield

    return fate


def test_two_nodes_train_the_model_though_one_is_taken_away(
    server: TrainerServer,
    train: Train,
    bucket: Minio,
    dataset_dir: Path,
    encoder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    uri = f"{BUCKET}/run-of-two/dataset"
    repository.put(dataset_dir, s3_address("dataset", f"s3://{uri}"))
    settings = TrainingSettings(
        model_id=str(encoder),
        **TRAINING,
        num_nodes=2,
        dropout=0.1,
        truncation_side="left",
        checkpoint_interval=0,
    )
    to_take = [1]

    def once_there_is_a_checkpoint() -> int | None:
        names = (str(item.object_name) for item in bucket.list_objects(BUCKET, CHECKPOINTS, recursive=True))
        return to_take.pop() if to_take and any(name.endswith(CHECKSUMS_NAME) for name in names) else None

    server.fate = running = TrainerNodes(tmp_path, once_there_is_a_checkpoint)
    try:
        trained = train(
            settings, dataset_uri=f"minio://{uri}", model_uri=f"minio://{BUCKET}/run-of-two/model"
        )
    finally:
        running.end()
    assert trained.arguments["training"] == asdict(settings)
    assert trained.metrics["validation_accuracy"] > 0.9
    assert manifest.verify(tmp_path / "model") == trained
    said = capfd.readouterr().out
    assert "node 1 was replaced: pod miniml-" in said
    assert "error: stopped by SIGTERM after step" in said
    assert "-node-0-0-x7x7x was stopped by SIGTERM and is started again (1 times so far)" in said
    assert said.count("miniml: continuing from step ") == 1
    assert said.count("miniml: trained: ") == 1
    assert "miniml: fetched" in said
    for noise in ("OMP_NUM_THREADS", "find_unused_parameters", "Traceback"):
        assert noise not in said
    assert len(server.made) == 1


def test_the_model_of_the_nodes_is_the_steps_and_the_job_is_gone(
    server: TrainerServer, train: Train, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.fate = completes(model, "miniml: training ·", "miniml~ 1/2", "miniml: trained")
    trained = train()
    assert trained == manifest.read(model)
    assert manifest.verify(tmp_path / "model").digest == trained.digest
    said = capfd.readouterr().out
    assert "miniml: training ·\nminiml~ 1/2\nminiml: trained\n" in said
    assert "2 nodes of registry.example/miniml-train:1" in said
    assert server.jobs == {}


def test_the_job_is_the_steps_image_with_the_same_entry_point_on_so_many_nodes(
    server: TrainerServer, train: Train, model: Path
) -> None:
    server.fate = completes(model)
    train(nodes=NodeSettings(node_resources="cpu=4, memory=8Gi, nvidia.com/gpu=2", training_timeout=3600))
    (job,) = server.made  # The server has held it against the CRD and the webhook's rules.
    trainer = job["spec"]["trainer"]
    assert trainer["numNodes"] == 2
    assert trainer["image"] == "registry.example/miniml-train:1"
    assert trainer["command"] == ["python", "-m", "miniml.train_job.node", "2"]
    assert trainer["args"][:2] == [f"s3://{BUCKET}/run-1/dataset", f"s3://{BUCKET}/run-1/train/model"]
    assert {"--batch-size=16", "--num-nodes=2", "--model-id=google-bert/bert-base-cased"} <= set(
        trainer["args"]
    )
    assert trainer["resourcesPerNode"]["requests"] == trainer["resourcesPerNode"]["limits"]
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "2"}
    assert job["spec"]["runtimeRef"] == {"kind": "ClusterTrainingRuntime", "name": "torch-distributed"}
    assert job["spec"]["activeDeadlineSeconds"] == 3600


@pytest.mark.parametrize(
    ("nodes", "placement"),
    [
        (
            NodeSettings(node_resources="nvidia.com/gpu=1", train_node_selector="zone=a"),
            {"nodeSelector": {"zone": "a"}, "tolerations": [GPU_TOLERATION]},
        ),
        (NodeSettings(node_resources="cpu=4"), {}),
    ],
)
def test_the_nodes_pods_run_where_the_settings_say_and_those_with_gpus_tolerate_their_taint(
    nodes: NodeSettings, placement: dict[str, Any], server: TrainerServer, train: Train, model: Path
) -> None:
    server.fate = completes(model)
    train(nodes=nodes)
    (patch,) = server.made[0]["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert {name: pod[name] for name in ("nodeSelector", "tolerations") if name in pod} == placement


def test_the_keys_of_the_store_are_mounted_and_stand_nowhere_in_the_job(
    server: TrainerServer, train: Train, model: Path
) -> None:
    server.fate = completes(model)
    train()
    (job,) = server.made
    assert not any(key in str(job) for key in WRITER)
    (patch,) = job["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert {"name": "store", "secret": {"secretName": S3_SECRET}} in pod["volumes"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    environment = {entry["name"]: entry["value"] for entry in job["spec"]["trainer"]["env"]}
    (container,) = pod["containers"]
    assert environment["MINIML_S3_SECRET"] in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_the_runs_workflow_owns_the_job(server: TrainerServer, train: Train, model: Path) -> None:
    server.fate = completes(model)
    train(nodes=NodeSettings(keep_train_job=True))
    (job,) = server.jobs.values()  # It was asked to be kept.
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Workflow", "workflow-1")


def test_each_line_is_printed_once_though_connections_break_and_the_container_starts_again(
    server: TrainerServer, train: Train, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        pods = server.start(job)
        first = server.log_of(pods[0])
        first.write(*(f"first {number}" for number in range(9)))
        server.log_cuts = [3, 5, 7]
        for _ in range(4):
            yield
        first.write("first: last words")
        first.end()
        second = server.restart(pods[0])
        second.write(*(f"second {number}" for number in range(5)))
        pods[0]["status"]["containerStatuses"][0]["restartCount"] = 1
        yield
        second.end()
        yield from completes(model)(server, job)

    server.fate = fate
    train()
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith(("first", "second"))]
    expected = [*(f"first {n}" for n in range(9)), "first: last words", *(f"second {n}" for n in range(5))]
    assert lines == expected


def test_a_nodes_own_error_ends_the_step_at_once_and_the_job_with_it(
    server: TrainerServer, train: Train
) -> None:
    server.fate = fails("error: it is said", message="column 'label' not in train.csv.")
    with pytest.raises(TrainJobError) as failed:
        train()
    assert str(failed.value) == "the training on 2 nodes ended: column 'label' not in train.csv."
    assert server.jobs == {}


def test_the_error_of_another_node_is_told_too(server: TrainerServer, train: Train) -> None:
    server.fate = fails("error: the disk is full.", message="the disk is full.", node=1)
    with pytest.raises(TrainJobError, match=r"ended: the disk is full\. \(on miniml-.*-node-0-1-"):
        train()


def test_an_end_that_names_no_error_is_told_with_the_last_lines(server: TrainerServer, train: Train) -> None:
    server.fate = fails("python: No module named miniml.train_job.node")
    with pytest.raises(TrainJobError, match=r"ended with status 1, and would again(.|\n)*No module named"):
        train()


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (ExitStatus.STOPPED, "was stopped by SIGTERM"),
        (ExitStatus.UNAVAILABLE, "lost the store or the hub"),
        (ExitStatus.UNFORESEEN, "failed (another node may be gone)"),
        (128 + signal.SIGKILL, "was killed"),
        (128, "ended with status 128"),
    ],
)
def test_a_node_that_will_do_better_the_next_time_is_waited_for(
    server: TrainerServer,
    train: Train,
    model: Path,
    code: int,
    how: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        pods = server.start(job)
        server.log_of(pods[0]).write("error: whatever it says")
        server.end(pods[0], code, message="whatever it says")
        yield
        server.start_again(pods[0])
        server.log_of(pods[0]).end()
        yield
        yield from completes(model)(server, job)

    server.fate = fate
    assert train() == manifest.read(model)
    assert f"-node-0-0-x7x7x {how} and is started again (1 times so far)" in capfd.readouterr().out


@pytest.mark.parametrize("replaced", [False, True])
def test_a_job_that_is_given_up_because_nodes_were_taken_away_is_made_again(
    server: TrainerServer,
    train: Train,
    model: Path,
    replaced: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        if len(server.made) == 2:
            yield from completes(model)(server, job)
        pods = server.start(job)
        if replaced:
            for _ in range(2):  # When it is made, and when it is followed.
                yield
            server.log_of(pods[0]).end()
            server.log_of(server.replace(pods[0])).end()
        else:
            server.end(pods[0], ExitStatus.STOPPED)
            yield
            server.start_again(pods[0])
            server.log_of(pods[0]).end()
        yield
        server.pods = []  # The Job's controller deletes them once its backoffLimit is reached.
        server.set_condition(job, "Failed", "FailedJobs", "jobset failed due to one or more job failures")
        yield

    server.fate = fate
    assert train() == manifest.read(model)
    assert len(server.made) == 2
    assert "creating the TrainJob again" in capfd.readouterr().out


def test_what_is_said_of_the_nodes_is_true(
    server: TrainerServer, train: Train, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        for _ in range(3):
            yield
        pods = server.start(job)
        server.log_of(pods[0]).write("both run")
        for _ in range(3):  # In silence.
            yield
        server.log_of(pods[0]).write("one left")
        server.end(pods[1], 0)
        for _ in range(3):
            yield
        repository.put(model, s3_address("MODEL", job["spec"]["trainer"]["args"][1]))
        server.end(pods[0], 0)
        for _ in range(3):
            yield
        server.set_condition(job, "Complete", "JobsCompleted", "jobset completed successfully")
        yield

    server.fate = fate
    train()
    said = capfd.readouterr().out.partition("miniml: TrainJob")[2].splitlines()
    waiting = [number for number, line in enumerate(said) if "waiting for" in line]
    assert waiting and max(waiting) < said.index("both run")
    assert all("waiting for 2 of 2 nodes" in said[number] for number in waiting)
    reports = [line.rpartition(": ")[2] for line in said if line.startswith("miniml: TrainJob")]
    assert reports == [
        "0 of 2 nodes run",
        "2 of 2 nodes run",
        "1 of 2 nodes run, 1 done",
        "all 2 nodes are done",
    ]


def test_a_job_that_fails_tells_its_condition_the_events_and_the_last_lines(
    server: TrainerServer, train: Train
) -> None:
    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        pods = server.start(job)
        for pod in pods:
            server.log_of(pod).write(f"Traceback of {pod['metadata']['name'][-7:]}")
            server.end(pod, ExitStatus.UNFORESEEN)
        server.events = [
            {"involvedObject": {"name": job["metadata"]["name"]}, "reason": "Late", "message": "too late"}
        ]
        server.set_condition(job, "Failed", "FailedJobs", "jobset failed due to one or more job failures")
        yield

    server.fate = fate
    with pytest.raises(TrainJobError) as failed:
        train()
    assert "failed: FailedJobs: jobset failed due to one or more job failures" in str(failed.value)
    assert "Late: too late" in str(failed.value)
    assert str(failed.value).count("Traceback of") == 2
    assert server.jobs == {}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
            "ImagePullBackOff no such image",
        ),
        (
            {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            "took more memory than it may .*node_resources",
        ),
        (
            {"terminated": {"exitCode": 71, "message": "OutOfMemoryError: CUDA out of memory."}},
            "took more memory than it may .*CUDA out of memory.*node_resources",
        ),
    ],
)
def test_what_time_will_not_mend_is_not_waited_for(
    server: TrainerServer, train: Train, state: Job, message: str
) -> None:
    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        for pod in server.start(job, state=state):
            server.log_of(pod).end()
        yield

    server.fate = fate
    with pytest.raises(TrainJobError, match=message):
        train()


def test_a_job_without_pods_is_given_up_with_what_the_cluster_says(
    server: TrainerServer, train: Train
) -> None:
    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        server.events = [
            {
                "involvedObject": {"name": job["metadata"]["name"]},
                "reason": "TrainJobResourcesCreationFailed",
                "message": "exceeded quota",
            }
        ]
        yield

    server.fate = fate
    with pytest.raises(TrainJobError, match=r"no pods(.|\n)*exceeded quota"):
        train(timeouts=replace(QUICK, no_pods=0.05))


def test_a_cluster_without_trainer_is_told_how_to_get_it(server: TrainerServer, train: Train) -> None:
    server.objects = {path: thing for path, thing in server.objects.items() if API_VERSION not in path}
    with pytest.raises(ClusterError, match=r"does not know TrainJobs.*kubectl apply"):
        train()


def test_a_cluster_without_the_runtime_is_told_so(server: TrainerServer, train: Train) -> None:
    with pytest.raises(
        ClusterError, match=r"no training runtime 'mine' .*kubectl get clustertrainingruntimes"
    ):
        train(nodes=NodeSettings(training_runtime="mine"))


def test_a_trainer_that_has_just_been_started_is_waited_for(
    server: TrainerServer, train: Train, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.fate, server.webhook_away = completes(model), 5
    train()
    assert (
        capfd.readouterr().out.count("Kubeflow Trainer is not ready yet, waiting for it for up to 120 s") == 1
    )
    assert len(server.made) == 1


def test_a_trainer_that_never_answers_is_given_up(server: TrainerServer, train: Train) -> None:
    server.webhook_away = 10_000
    with pytest.raises(ClusterError, match=r"not ready after 0\.05 s: .*failed calling webhook"):
        train(timeouts=replace(QUICK, not_ready=0.05))


def test_a_trainer_that_would_drop_the_keys_is_refused(server: TrainerServer, train: Train) -> None:
    server.old_trainer = True
    with pytest.raises(TrainJobError, match=r"older than 2\.3"):
        train()
    assert server.jobs == {}


def test_an_account_without_the_right_is_told_which_one(server: TrainerServer, train: Train) -> None:
    server.denied = {"create trainjobs"}
    with pytest.raises(ForbiddenError, match=r'cannot create resource "trainjobs".*manifests/'):
        train()


def test_a_retry_finds_the_job_and_the_model_where_the_first_try_put_it(
    server: TrainerServer, train: Train, model: Path, tmp_path: Path
) -> None:
    server.fate = completes(model)
    in_the_way = tmp_path / "model" / "a file"
    in_the_way.parent.mkdir()
    in_the_way.touch()
    with pytest.raises(InputError, match="exists already"):  # The first try's own trouble.
        train()
    in_the_way.unlink()
    assert len(server.jobs) == 1
    trained = train(model_uri=f"{MODEL}-of-the-second-try")
    assert trained.digest == manifest.read(model).digest
    assert len(server.made) == 1


def test_a_retry_replaces_a_job_that_failed(server: TrainerServer, train: Train, model: Path) -> None:
    def fails_for_good(server: TrainerServer, job: Job) -> Iterator[None]:
        server.set_condition(job, "Failed", "FailedJobs", "jobset failed")
        yield

    server.fate = fails_for_good
    with pytest.raises(TrainJobError):
        train(nodes=NodeSettings(keep_train_job=True))
    server.fate = completes(model)
    train(nodes=NodeSettings(keep_train_job=True))
    assert len(server.made) == 2


def test_trainings_of_one_run_have_jobs_of_their_own(
    server: TrainerServer, train: Train, model: Path, tmp_path: Path
) -> None:
    server.fate = completes(model)
    train()
    fine_tune_on_nodes(
        DATASET,
        tmp_path / "other",
        MODEL,
        replace(SETTINGS, seed=7),
        NodeSettings(),
        STEP,
        timeouts=QUICK,
    )
    first, second = (job["metadata"]["name"] for job in server.made)
    assert first != second


def test_a_step_that_is_told_to_end_takes_the_job_with_it(server: TrainerServer, train: Train) -> None:
    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        server.start(job)
        yield
        os.kill(os.getpid(), signal.SIGTERM)
        yield

    server.fate = fate
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        train()
    assert ended.value.code == 128 + signal.SIGTERM
    assert server.jobs == {}
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_server_that_is_away_for_a_while_is_waited_for(
    server: TrainerServer, train: Train, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        yield
        server.drops = 4
        yield
        yield from completes(model)(server, job)

    server.fate = fate
    train()
    assert "the training goes on unseen" in capfd.readouterr().out


def test_a_server_that_stays_away_leaves_the_job_for_a_retry(server: TrainerServer, train: Train) -> None:
    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        yield
        server.drops = 10_000
        yield

    server.fate = fate
    with pytest.raises(ClusterError, match="does not answer"):
        train()
    assert len(server.jobs) == 1


def test_a_job_that_somebody_deletes_is_missed(server: TrainerServer, train: Train) -> None:
    def fate(server: TrainerServer, job: Job) -> Iterator[None]:
        yield
        del server.jobs[job["metadata"]["name"]]
        yield

    server.fate = fate
    with pytest.raises(TrainJobError, match="was deleted by somebody else"):
        train()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"settings": replace(SETTINGS, batch_size=3)}, "2 processes .* cannot share it evenly"),
        ({"model_uri": "gs://bucket/model"}, "the model of this run is at gs://.*share no disk"),
        ({"dataset_uri": "/tmp/dataset"}, "the dataset of this run is at /tmp/dataset"),
    ],
)
def test_what_nodes_cannot_do_is_refused_before_there_are_any(
    server: TrainerServer, train: Train, given: Job, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(**given)
    assert server.requests == []


def test_on_a_laptop_several_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InputError, match="no pod of a cluster"):
        Step.in_this_pod("a-step", "main")


WAITS = """
import sys
from dataclasses import asdict
from pathlib import Path
from kfp import dsl
from components.train import train
from miniml.cluster.api import Cluster
from miniml.errors import InputError
from miniml.settings.arguments import as_inputs
from miniml.settings.nodes import NodeSettings
from miniml.settings.training import TrainingSettings
from miniml.train_job.sdk import Step
from miniml.train_job.train_on_nodes import fine_tune_on_nodes
from miniml.train_step.report import write_trial_report

dataset_uri, model_uri, folder = sys.argv[1:]
settings, nodes = TrainingSettings(batch_size=16, num_nodes=2), NodeSettings()
artifacts = {name: dsl.Artifact(uri=f"{folder}/{name}") for name in ("dataset", "model", "metrics", "report")}
try:
    train.python_func(**artifacts, **as_inputs(asdict(settings) | asdict(nodes)))
except InputError as error:
    assert "no pod of a cluster" in str(error)
model = Path(folder) / "trained"
fine_tune_on_nodes(dataset_uri, model, model_uri, settings, nodes, Step("kubeflow", "a-step", "main"))
write_trial_report(model, Path(folder) / "report.html")
print(sorted({"torch", "transformers", "datasets"} & set(sys.modules)))
"""


def test_the_step_that_waits_for_the_nodes_takes_no_memory_for_torch(
    server: TrainerServer, model_dir: Path, tmp_path: Path
) -> None:
    server.fate = completes(model_dir)
    words = [sys.executable, "-c", WAITS, DATASET, MODEL, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("[]\n"), done.stdout + done.stderr
