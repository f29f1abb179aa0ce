"""What a cluster gives each step: every pod has requests and limits, and train's are the run's arguments.

How Kubeflow Pipelines fills them in is played here as its driver does it (kubeflow/pipelines 2.17.0,
backend/src/v2/driver: driver.go, initPodSpecPatch and getPodResource; resolve.go, resolveInputParameter and
resolvePodSpecInputRuntimeParameter).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from miniml.errors import InputError
from miniml.preflight.run_plan import plan_run
from miniml.resource_names import GPU_TOLERATION
from miniml.settings.arguments import SETTINGS, arguments_of
from miniml.settings.steps import StepSettings
from miniml.settings.training import TrainingSettings
from tests.command import ROOT
from tests.stages import STAGES
from tests.versions import KUBERNETES

PIPELINES = ("text_classification", "hyperparameter_search")
AMOUNTS = {"": 1.0, "m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30}


def pods(compiled: str, **arguments: str) -> dict[str, dict[str, dict[str, str]]]:
    """The requests and limits of each stage's pod, in a run with these arguments."""
    spec = next(yaml.safe_load_all((ROOT / "pipelines" / "compiled" / f"{compiled}.yaml").read_text()))
    given = {
        name: of.get("defaultValue") for name, of in spec["root"]["inputDefinitions"]["parameters"].items()
    }
    return dict(_pods(spec, spec["root"], given | arguments))


def _pods(
    spec: dict[str, Any], dag: dict[str, Any], given: dict[str, Any]
) -> Iterator[tuple[str, dict[str, dict[str, str]]]]:
    for name, task in dag["dag"]["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        inputs = {
            each: resolved(of, given) for each, of in task.get("inputs", {}).get("parameters", {}).items()
        }
        if "parameterIterator" in task:
            inputs[task["parameterIterator"]["itemInput"]] = "an item"
        if "dag" in component:
            yield from _pods(spec, component, inputs)
        else:
            container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
            yield name, resources(container.get("resources", {}), inputs)


def resolved(of: dict[str, Any], given: dict[str, Any]) -> Any:
    if "componentInputParameter" in of:
        assert of["componentInputParameter"] in given, f"parent DAG does not have input parameter {of}"
        return given[of["componentInputParameter"]]
    return of["runtimeValue"]["constant"] if "runtimeValue" in of else "an earlier step's"


def resources(container: dict[str, Any], inputs: dict[str, Any]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for kind, name in ((kind, name) for kind in found for name in ("cpu", "memory")):
        key = f"resource{name.title()}{kind.title().removesuffix('s')}"
        if key in container:
            found[kind][name] = filled_in(container[key], inputs)
            assert found[kind][name], f"{key}: quantities must match the regular expression"
    accelerator = container.get("accelerator", {})
    if count := filled_in(accelerator.get("resourceCount", ""), inputs):
        found["limits"][accelerator["resourceType"]] = count
    return found


def filled_in(text: str, inputs: dict[str, Any]) -> str:
    named = re.search(r"\$.inputs.parameters\['(.+?)'\]", text)
    if not named:
        return text
    value = inputs[named[1]]
    return value if isinstance(value, str) else ""  # GetStringValue of a number


def amount(quantity: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(.*)", quantity).groups()  # type: ignore[union-attr]
    return float(number) * AMOUNTS[unit]


@pytest.mark.parametrize("compiled", PIPELINES)
def test_every_steps_pod_has_requests_and_limits_so_that_a_quota_takes_it(compiled: str) -> None:
    found = pods(compiled)
    assert set(STAGES) <= found.keys()
    for stage, given in found.items():
        for name in ("cpu", "memory"):
            assert 0 < amount(given["requests"][name]) <= amount(given["limits"][name]), stage


@pytest.mark.parametrize("compiled", PIPELINES)
def test_train_has_what_the_run_says_in_a_searchs_loop_too(compiled: str) -> None:
    found = pods(compiled, train_cpu="8", train_memory="24Gi", train_gpus="1")
    assert found["train"] == {
        "requests": {"cpu": "250m", "memory": "1Gi"},
        "limits": {"cpu": "8", "memory": "24Gi", "nvidia.com/gpu": "1"},
    }
    # It answers with the model, and with the champion, so it wants as much; it computes on the processor.
    assert found["evaluate"]["limits"] == {"cpu": "8", "memory": "24Gi"}


@pytest.mark.parametrize("compiled", PIPELINES)
def test_who_wants_no_gpu_gets_a_pod_that_knows_of_none(compiled: str) -> None:
    assert pods(compiled)["train"] == {
        "requests": {"cpu": "250m", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "4Gi"},
    }


def placements(compiled: str, found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Where each stage's pod may run, in a run whose preflight has these outputs."""
    path = ROOT / "pipelines" / "compiled" / f"{compiled}.yaml"
    spec, platform = yaml.safe_load_all(path.read_text())
    configured = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return dict(_placements(spec, configured, spec["root"], {"preflight": found}, {}))


def _placements(
    spec: dict[str, Any],
    configured: dict[str, Any],
    dag: dict[str, Any],
    found: dict[str, dict[str, Any]],
    given: dict[str, Any],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Resolves as kubeflow/pipelines 2.17.0 does (backend/src/v2/driver: k8s.go, extendPodSpecPatch; resolve.go)."""

    def value(of: dict[str, Any]) -> Any:
        if "componentInputParameter" in of:
            return given.get(of["componentInputParameter"])
        if "taskOutputParameter" not in of:
            return None
        produced = of["taskOutputParameter"]
        assert produced["producerTask"] in dag["dag"]["tasks"], "only a task of the same DAG is found"
        return found.get(produced["producerTask"], {}).get(produced["outputParameterKey"])

    for name, task in dag["dag"]["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            inputs = {each: value(of) for each, of in task.get("inputs", {}).get("parameters", {}).items()}
            yield from _placements(spec, configured, component, {}, inputs)
        else:
            kubernetes = configured.get(component["executorLabel"], {})
            selector = value(kubernetes.get("nodeSelector", {}).get("nodeSelectorJson", {}))
            tolerations = [value(each["tolerationJson"]) for each in kubernetes.get("tolerations", [])]
            yield (
                name,
                {
                    **({"nodeSelector": selector} if selector else {}),
                    **({"tolerations": some} if (some := [each for each in tolerations if each]) else {}),
                },
            )


@pytest.mark.parametrize("compiled", PIPELINES)
def test_the_steps_with_gpus_run_where_preflight_says_in_a_searchs_loop_too(compiled: str) -> None:
    found = {"node_selector": {"zone": "a"}, "toleration": GPU_TOLERATION}
    there = {"nodeSelector": {"zone": "a"}, "tolerations": [GPU_TOLERATION]}
    placed = placements(compiled, found)
    assert {stage: where for stage, where in placed.items() if where} == {"train": there, "compress": there}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "train"},
        "spec": {"containers": [{"name": "main", "image": "x"}], **there},
    }
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    assert not any(placements(compiled, {"node_selector": {}, "toleration": {}}).values())


@pytest.mark.parametrize(
    ("arguments", "selector", "toleration"),
    [
        ({}, {}, {}),
        ({"train_gpus": "1", "device": "cuda"}, {}, GPU_TOLERATION),
        ({"train_node_selector": "zone=a"}, {"zone": "a"}, {}),
    ],
)
def test_preflight_says_where_a_training_runs(
    arguments: dict[str, str],
    selector: dict[str, str],
    toleration: dict[str, str],
    reviews: Path,
    encoder: Path,
    tmp_path: Path,
) -> None:
    sources = {"dataset_id": str(reviews), "model_id": str(encoder)}
    plan = plan_run(sources | arguments, tmp_path / "report.md")
    assert (plan.node_selector, plan.toleration) == (selector, toleration)


def test_what_becomes_a_pods_resources_is_a_string_for_a_number_comes_to_nothing() -> None:
    assert {argument.kind for argument in arguments_of((StepSettings,)).values()} == {str}


def test_the_defaults_fit_beside_kubeflow_on_the_node_of_make_cluster() -> None:
    """Of its 8 GiB, KFP 2.17.0 asks for 3.1 (its manifests/kustomize), Kubernetes for 0.6, a served model for 2."""
    for given in pods("hyperparameter_search").values():
        assert amount(given["requests"]["cpu"]) <= 0.5
        assert amount(given["requests"]["memory"]) <= 2 * 2**30


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train_cpu": ""}, "train_cpu '' is not a Kubernetes quantity. Write it as 500m, 2 or 2Gi"),
        ({"train_memory": ""}, "train_memory '' is not a Kubernetes quantity"),
        ({"train_memory": "16GB"}, "train_memory '16GB' is not a Kubernetes quantity"),
        ({"train_cpu": "\u0662"}, "is not a Kubernetes quantity"),  # a digit, and none of Kubernetes'
        ({"train_cpu": "100m"}, "train_cpu is '100m'; it must be 250m or more"),
        ({"train_memory": "4"}, "train_memory is '4'; it must be 1Gi or more"),
        ({"train_memory": "512m"}, "train_memory is '512m'; it must be 1Gi or more"),
        ({"train_gpus": "-1"}, "train_gpus is '-1'; it is a whole number, 1 say, or empty for none"),
        ({"train_gpus": "0.5"}, "train_gpus is '0.5'; it is a whole number"),
        ({"train_gpus": "1" * 5000}, "train_gpus is '111"),
    ],
)
def test_what_no_pod_could_have_is_refused_by_name_and_value(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        StepSettings(**wrong)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("memory", ["1024Mi", "1.5Gi", "4G", "4294967296", "1.5Ti"])
def test_memory_is_written_as_kubernetes_writes_it(memory: str) -> None:
    assert StepSettings(train_memory=memory).train_memory == memory


def test_gpus_that_would_stand_idle_are_refused() -> None:
    steps = StepSettings(train_gpus="1")
    steps.require_use_of_gpus(TrainingSettings(device="cuda"))
    with pytest.raises(InputError, match=r"train_gpus is 1, but device is 'cpu'.*Set device to 'cuda'"):
        steps.require_use_of_gpus(TrainingSettings())
    with pytest.raises(InputError, match=r"num_nodes is 2, .*only waits for .*node_resources"):
        steps.require_use_of_gpus(TrainingSettings(device="cuda", num_nodes=2))
    with pytest.raises(InputError, match=r"train_gpus is 2, but the step trains in one process.*num_nodes 2"):
        StepSettings(train_gpus="2").require_use_of_gpus(TrainingSettings(device="cuda"))
    for none in ("", "0"):
        StepSettings(train_gpus=none).require_use_of_gpus(TrainingSettings())


def test_preflight_refuses_them_before_the_training(reviews: Path, encoder: Path, tmp_path: Path) -> None:
    sources = {"dataset_id": str(reviews), "model_id": str(encoder)}
    for wrong, message in (
        ({"train_memory": ""}, "train_memory ''"),
        ({"train_gpus": "1"}, "device is 'cpu'"),
    ):
        with pytest.raises(InputError, match=message):
            plan_run(sources | wrong, tmp_path / "report.md")


def test_what_a_step_is_given_is_no_setting_of_its_training() -> None:
    """So a checkpoint goes on, and a model has the same digest, with more memory."""
    assert not arguments_of((StepSettings,)).keys() & arguments_of((TrainingSettings,)).keys()
    assert StepSettings in SETTINGS
