"""Settings of the InferenceService that serves a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from miniml.errors import InputError
from miniml.resource_names import PREDICTOR_ACCOUNT, SERVING_NAMESPACE
from miniml.settings.checks import (
    require_at_least,
    require_choices,
    require_dns_label,
    require_quantity,
    require_service,
)
from miniml.settings.field_types import FormField
from miniml.settings.node_labels import node_labels


@dataclass(frozen=True)
class DeploymentSettings:
    """The InferenceService that serves a model."""

    service_name: FormField[str] = "miniml"
    """The name of the InferenceService."""
    namespace: FormField[str] = SERVING_NAMESPACE
    """The Kubernetes namespace of the InferenceService."""
    min_replicas: int = 1
    """The smallest number of serving pods."""
    max_replicas: int = 1
    """The most pods that autoscaling may start."""
    cpu: str = "2"
    """CPU of each serving pod, as a Kubernetes quantity: 500m, 2."""
    memory: str = "2Gi"
    """Memory of each serving pod, as a Kubernetes quantity: 2Gi."""
    gpus: int = 0
    """The number of GPUs (nvidia.com/gpu) of each serving pod, in an image with CUDA's build of torch. The pod
    tolerates the taint of that name, which keeps others off nodes with GPUs. No model has been served on one yet."""
    node_selector: str = ""
    """Labels of the nodes that may run the serving pods: "nvidia.com/gpu.product=NVIDIA-L4, zone=a"; "" allows all."""
    autoscaling_metric: Literal["cpu", "memory"] = "cpu"
    """The metric by which Kubernetes scales the pods. KServe's other two metrics need Knative."""
    autoscaling_target: int = 70
    """Percent of the requested `cpu` or `memory` that a pod uses on average before another pod is started."""
    service_account: str = PREDICTOR_ACCOUNT
    """Service account of the serving pods; it lists the secret with which they read the model."""
    deploy_timeout: int = 900
    """Seconds that the new model has to become ready; a failure that cannot recover ends the wait earlier."""
    dry_run: FormField[bool] = False
    """Writes the InferenceService as YAML without applying it to a cluster."""

    def __post_init__(self) -> None:
        require_service(self.service_name, self.namespace)
        require_at_least("min_replicas", self.min_replicas, 1)
        require_at_least("max_replicas", self.max_replicas, self.min_replicas, "It is min_replicas at least.")
        require_dns_label("service_account", self.service_account, longest=63)
        require_choices(self)
        if not 1 <= self.autoscaling_target <= 100:
            raise InputError(
                f"autoscaling_target is {self.autoscaling_target}; it is a percentage, from 1 to 100."
            )
        require_at_least("deploy_timeout", self.deploy_timeout, 1, "It is a number of seconds.")
        for name in ("cpu", "memory"):
            require_quantity(name, getattr(self, name))
        require_at_least("gpus", self.gpus, 0, "0 serves on the processor.")
        _ = self.node_labels  # Refuses what cannot be read.

    @property
    def node_labels(self) -> dict[str, str]:
        """The labels in `node_selector`, by name.

        Raises:
            InputError: `node_selector` cannot be read.
        """
        return node_labels("node_selector", self.node_selector)
