"""Settings of the cluster resources that the steps get."""

from __future__ import annotations

import re
from dataclasses import dataclass

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.checks import amount_of, require_quantity
from miniml.settings.field_types import FormField
from miniml.settings.training import TrainingSettings

MIN_CPU, MIN_MEMORY = "250m", "1Gi"
"""The CPU and memory that the training and evaluation steps request, and so the smallest `train_cpu` and
`train_memory`: Kubernetes allows no limit below the request. They are small so that the steps fit on a node of 8 GiB,
where Kubeflow Pipelines requests 3.1 GiB and a served model 2. The minimum also refuses a memory of 4 (bytes) or 512m
(thousandths of a byte), where 4Gi or 512Mi was meant."""


@dataclass(frozen=True)
class StepSettings:
    """The cluster resources of the train step; evaluation gets the same without GPUs. On a laptop they have no effect.

    All are strings because Kubeflow Pipelines, as of 2.17, cannot fill whole numbers into a pod.
    """

    train_cpu: FormField[str] = "2"
    """The CPU limit of training and evaluation, as a Kubernetes quantity: 1500m, 2."""
    train_memory: FormField[str] = "4Gi"
    """The memory limit of training and evaluation, as a Kubernetes quantity: 4Gi, 16Gi."""
    train_gpus: FormField[str] = ""
    """The number of GPUs (nvidia.com/gpu) for training: 1; "" requests none."""

    def __post_init__(self) -> None:
        for name, least in (("train_cpu", MIN_CPU), ("train_memory", MIN_MEMORY)):
            value = getattr(self, name)
            require_quantity(name, value)
            if amount_of(value) < amount_of(least):
                raise InputError(f"{name} is {shown(value)}; it must be {least} or more.")
        if not re.fullmatch(r"|0|[1-9]\d{0,2}", self.train_gpus):
            raise InputError(
                f"train_gpus is {shown(self.train_gpus)}; it is a whole number, 1 say, or empty for none."
            )

    @property
    def gpus(self) -> int:
        """The number of GPUs for training."""
        return int(self.train_gpus or 0)

    def require_use_of_gpus(self, training: TrainingSettings) -> None:
        """Refuses GPUs that the train step would not use.

        Raises:
            InputError: The training runs on the CPU, on other nodes, or in one process, which takes one GPU.
        """
        if not self.gpus:
            return
        if training.num_nodes > 1:
            raise InputError(
                f"train_gpus is {self.train_gpus}, but num_nodes is {training.num_nodes}, and the step only waits for "
                f"the nodes. Leave train_gpus empty, and give each node its own by node_resources."
            )
        if training.device == "cpu":
            raise InputError(
                f"train_gpus is {self.train_gpus}, but device is 'cpu', so that they would stand idle. Set device to "
                f"'cuda'."
            )
        if self.gpus > 1:
            raise InputError(
                f"train_gpus is {self.train_gpus}, but the step trains in one process, on one GPU. Set train_gpus to "
                f"1, or share each batch among nodes: num_nodes {self.gpus}, and nvidia.com/gpu=1 in node_resources."
            )
