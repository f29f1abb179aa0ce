"""What the account of a run's steps may put on a cluster: what deploy and train write passes, and nothing beside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from miniml.cluster.api import Cluster
from miniml.cluster.inference_service import inference_service
from miniml.resource_names import NAMESPACE, PIPELINE_ACCOUNT, PREDICTOR_ACCOUNT, S3_SECRET, SERVING_LABEL
from miniml.settings.deployment import DeploymentSettings
from miniml.settings.nodes import NodeSettings
from miniml.train_job.sdk import Step, TrainJobRequest, own_pod, submit
from tests.admission import Thing, refusals
from tests.command import ROOT
from tests.trainer_server import TrainerServer

POLICIES = ROOT / "manifests" / "base" / "admission"
STEPS = f"system:serviceaccount:{NAMESPACE}:{PIPELINE_ACCOUNT}"
SERVING = {SERVING_LABEL: "true"}
DIGEST = "d" * 64

Change = Callable[[Thing], object]


def policy(file: str) -> Thing:
    """The policy of a file, whose binding has it deny."""
    found, binding = yaml.safe_load_all((POLICIES / file).read_text(encoding="utf-8"))
    assert binding["spec"] == {"policyName": found["metadata"]["name"], "validationActions": ["Deny"]}
    assert found["spec"]["failurePolicy"] == "Fail"
    assert isinstance(found, dict)
    return found


SERVICES, JOBS = policy("inference-services.yaml"), policy("train-jobs.yaml")


def service(**settings: Any) -> Thing:
    """What deploy applies."""
    return inference_service("s3://bucket/model", DIGEST, DeploymentSettings(**settings), run="run-1")


def changed(thing: Thing, change: Change) -> Thing:
    other = copy.deepcopy(thing)
    change(other)
    return other


def said(thing: Thing, before: Thing | None = None, labels: dict[str, str] | None = None) -> list[str]:
    """What is said against the steps of a run making that InferenceService, or changing `before` into it."""
    return refusals(SERVICES, STEPS, thing, before, SERVING if labels is None else labels)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"service_name": "stars", "namespace": "team-a", "min_replicas": 2, "max_replicas": 6},
        {"cpu": "500m", "memory": "4Gi", "autoscaling_metric": "memory", "autoscaling_target": 50},
        {"service_account": f"{PREDICTOR_ACCOUNT}-eu"},
        {"gpus": 1, "node_selector": "nvidia.com/gpu.product=NVIDIA-L4"},
    ],
)
def test_what_deploy_applies_passes(settings: dict[str, Any]) -> None:
    made = service(**settings)
    assert said(made) == []
    assert (
        said(changed(made, lambda it: it["metadata"]["annotations"].update({"miniml/revision": "2"})), made)
        == []
    )


def test_a_rollback_to_what_an_earlier_version_deployed_passes() -> None:
    """Which had its probes in the InferenceService; now they are the runtime's."""
    ready = {
        "httpGet": {"path": "/v2/models/stars/ready", "port": 8080},
        "periodSeconds": 5,
        "timeoutSeconds": 2,
    }
    earlier = changed(
        service(),
        in_model(startupProbe=ready, readinessProbe=ready, livenessProbe={**ready, "failureThreshold": 3}),
    )
    assert said(earlier, before=service()) == []


def test_what_kserves_webhook_adds_passes() -> None:
    # pkg/apis/serving/v1beta1/inference_service_defaults.go; the empty name is one that Go writes out.
    def add(thing: Thing) -> None:
        thing["metadata"]["annotations"]["modelFormat"] = "huggingface"
        thing["spec"]["predictor"]["automountServiceAccountToken"] = False
        thing["spec"]["predictor"]["model"]["name"] = ""

    assert said(changed(service(), add)) == []


PRIVILEGED = {
    "containers": [{"name": "kserve-container", "image": "x", "securityContext": {"privileged": True}}],
    "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
}
THIEF = {
    "serviceAccountName": "pipeline-runner",
    "containers": [
        {
            "name": "kserve-container",
            "image": "x",
            "env": [
                {
                    "name": "PASSWORD",
                    "valueFrom": {"secretKeyRef": {"name": "mysql-secret", "key": "password"}},
                }
            ],
        }
    ],
}


@pytest.mark.parametrize("predictor", [PRIVILEGED, THIEF], ids=["privileged", "another account and secret"])
def test_a_pod_of_ones_own_is_refused(predictor: Thing) -> None:
    # Both ran on a real cluster, with a token of the account, before there was a policy.
    attack = changed(service(), lambda it: it["spec"].update({"predictor": predictor}))
    # Which of them is named first is not told: a map of CEL has no order.
    assert any(
        line.startswith("The steps of a run may not set spec.predictor.") and ": they may set" in line
        for line in said(attack)
    )
    assert refusals(SERVICES, "somebody-else", attack) == []


def in_predictor(**fields: Any) -> Change:
    return lambda it: it["spec"]["predictor"].update(fields)


def in_model(**fields: Any) -> Change:
    return lambda it: it["spec"]["predictor"]["model"].update(fields)


def in_metadata(what: str, name: str, value: str = "x") -> Change:
    return lambda it: it["metadata"][what].update({name: value})


@pytest.mark.parametrize(
    "change",
    [
        in_predictor(hostNetwork=True),
        in_predictor(hostPID=True),
        in_predictor(hostIPC=True),
        in_predictor(volumes=[]),
        in_predictor(initContainers=[{"name": "x", "image": "x"}]),
        in_predictor(workerSpec={}),
        in_predictor(serviceAccount="default"),
        in_predictor(serviceAccountName="default"),
        in_predictor(serviceAccountName=f"{PREDICTOR_ACCOUNT}x"),
        in_predictor(automountServiceAccountToken=True),
        in_predictor(securityContext={"runAsUser": 0}),
        in_predictor(storageUris=[{"uri": "pvc://x"}]),
        in_predictor(labels={"app": "seaweedfs"}),
        in_predictor(sklearn={"storageUri": "s3://x"}),
        in_predictor(aFieldOfALaterKServe=True),
        lambda it: it["spec"]["predictor"].pop("model"),
        lambda it: it["spec"]["predictor"].pop("serviceAccountName"),
        lambda it: it["spec"]["predictor"].pop("securityContext"),
        lambda it: it["spec"]["predictor"]["model"].pop("runtime"),
        lambda it: it["spec"].update(transformer={}),
        lambda it: it["spec"].update(explainer={}),
        lambda it: it["spec"].update(canary=[]),
        lambda it: it["spec"].clear(),
        in_model(image="x"),
        in_model(command=["sh"]),
        in_model(env=[{"name": "x", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]),
        in_model(envFrom=[{"secretRef": {"name": "x"}}]),
        in_model(volumeMounts=[]),
        in_model(securityContext={"privileged": True}),
        in_model(lifecycle={"postStart": {"exec": {"command": ["sh"]}}}),
        in_model(runtime="kserve-huggingfaceserver"),
        in_model(runtime="my-miniml"),
        in_model(storage={"key": "x"}),
        in_model(storageUri="pvc://claim/model"),
        in_model(storageUri="https://elsewhere/model"),
        in_model(args=["--model_dir=/"]),
        in_model(args=[f"--expected_digest={DIGEST}", "--http_port=80"]),
        in_model(livenessProbe={"exec": {"command": ["sh"]}}),
        in_model(livenessProbe={"httpGet": {"path": "/", "port": 80, "host": "169.254.169.254"}}),
        in_metadata("annotations", "serving.kserve.io/logger-secret-name"),
        in_metadata("annotations", "serving.kserve.io/deploymentMode", "Knative"),
        in_predictor(tolerations=[{"operator": "Exists"}]),
        in_predictor(tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}]),
        in_metadata("annotations", "internal.serving.kserve.io/agent", "true"),
        in_metadata("labels", "sidecar.istio.io/inject", "true"),
        in_metadata("labels", "app.kubernetes.io/managed-by", "Helm"),
        lambda it: it["metadata"].pop("labels"),
    ],
)
def test_whatever_else_one_may_write_into_an_inference_service_is_refused(change: Change) -> None:
    made = service()
    attack = changed(made, change)
    assert said(attack)
    assert said(attack, before=made)
    assert all(line.startswith("The steps of a run may ") for line in said(attack))


@pytest.mark.parametrize("labels", [{}, {SERVING_LABEL: "false"}, {"name": "kubeflow"}])
def test_nothing_is_served_where_no_models_are(labels: dict[str, str]) -> None:
    (line,) = said(service(), labels=labels)
    assert "manifests/serving-namespace.sh" in line


@pytest.mark.parametrize(
    "change",
    [in_predictor(tolerations=[{"key": "gpu"}]), in_metadata("labels", "argocd.argoproj.io/instance")],
)
def test_what_a_person_has_added_stays_and_cannot_be_changed(change: Change) -> None:
    before = changed(service(), change)
    assert said(changed(before, in_model(storageUri="s3://bucket/newer")), before) == []
    assert said(before, service())


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Thing]]:
    """TrainJobs of a step that has the store's keys, and pulls its image with a secret; the second one has GPUs."""
    with pytest.MonkeyPatch.context() as environment, TrainerServer(lambda text: {}) as server:
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "http://store")
        kubeconfig: Path = tmp_path_factory.mktemp("kube") / "config"
        environment.setenv("KUBECONFIG", str(server.write_kubeconfig(kubeconfig)))
        cluster = Cluster.connect()
        pod = own_pod(cluster, Step(NAMESPACE, "a-step", "main"))
        pod["spec"]["imagePullSecrets"] = [{"name": "registry"}]
        request = TrainJobRequest(
            "miniml-1", ["DATASET", "MODEL"], 2, NodeSettings(node_resources="cpu=4"), "s3://bucket/model"
        )
        on_gpus = NodeSettings(node_resources="nvidia.com/gpu=1", train_node_selector="zone=a")
        for each in (request, replace(request, name="miniml-2", nodes=on_gpus)):
            submit(cluster, each, pod, "main", (0.0, 0.0))
        yield server.made


@pytest.fixture(scope="module")
def job(jobs: list[Thing]) -> Thing:
    """One whose nodes have no GPU."""
    return jobs[0]


def test_the_job_of_nodes_with_gpus_passes(jobs: list[Thing]) -> None:
    assert pods_of(jobs[1]).keys() >= {"nodeSelector", "tolerations"}
    assert refusals(JOBS, STEPS, jobs[1]) == []


def test_the_job_that_train_makes_passes(job: Thing) -> None:
    assert S3_SECRET in str(job)
    assert refusals(JOBS, STEPS, job) == []
    owned = changed(job, lambda it: it["metadata"].update(ownerReferences=[{"kind": "Workflow"}]))
    assert refusals(JOBS, STEPS, owned, before=job) == []


def pods_of(job: Thing) -> Thing:
    """The part of a TrainJob that patches the pods of its nodes."""
    (patch,) = job["spec"]["runtimePatches"]
    (nodes,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    found: Thing = nodes["template"]["spec"]["template"]["spec"]
    return found


SECRET_VARIABLE = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "mysql-secret", "key": "password"}}}


@pytest.mark.parametrize(
    "change",
    [
        lambda it: pods_of(it).update(serviceAccountName="pipeline-runner"),
        lambda it: pods_of(it).update(initContainers=[{"name": "x"}]),
        lambda it: pods_of(it).update(securityContext={"runAsUser": 0}),
        lambda it: pods_of(it).update(hostNetwork=True),
        lambda it: pods_of(it).update(tolerations=[{"operator": "Exists"}]),
        lambda it: pods_of(it).update(nodeName="control-plane"),
        lambda it: pods_of(it)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
        lambda it: pods_of(it)["volumes"].append({"name": "x", "secret": {"secretName": "mysql-secret"}}),
        lambda it: pods_of(it)["volumes"].append({"name": "x", "projected": {"sources": []}}),
        lambda it: pods_of(it)["containers"][0].update(securityContext={"privileged": True}),
        lambda it: pods_of(it)["containers"][0].update(env=[SECRET_VARIABLE]),
        lambda it: it["spec"]["trainer"]["env"].append(SECRET_VARIABLE),
        lambda it: it["spec"].update(initializer={"model": {"secretRef": {"name": "mysql-secret"}}}),
        lambda it: it["spec"]["runtimePatches"].append({"manager": "x", "aFieldOfALaterTrainer": {}}),
    ],
)
def test_whatever_else_one_may_write_into_a_train_job_is_refused(job: Thing, change: Change) -> None:
    attack = changed(job, change)
    assert refusals(JOBS, STEPS, attack)
    assert refusals(JOBS, STEPS, attack, before=job)
    assert refusals(JOBS, "somebody-else", attack) == []


def test_what_another_manager_has_patched_into_a_train_job_stays(job: Thing) -> None:
    queued = changed(job, lambda it: it["spec"]["runtimePatches"].append({"manager": "kueue", "any": {}}))
    assert refusals(JOBS, STEPS, queued, before=queued) == []
