"""What the steps get of a cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.checks import amount_of, require_quantity
from miniml.settings.field_types import FormField
from miniml.settings.training import TrainingSettings

MIN_CPU, MIN_MEMORY = "250m", "1Gi"
"""Of `train_cpu` and `train_memory`: what the steps ask their node for. It is little, so that they find a place on one
of 8 GiB, where Kubeflow Pipelines asks for 3.1, and a served model for 2. Kubernetes takes no limit below it; and so 4
is not taken for 4Gi, nor 512m, which are thousandths of a byte."""


@dataclass(frozen=True)
class StepSettings:
    """What the train step gets of a cluster; a laptop gives what it has. Evaluation gets the same, but for GPUs.

    Kubeflow Pipelines fills them into the pod, and takes no whole number there, as of 2.17: so GPUs are a string too.
    """

    train_cpu: FormField[str] = "2"
    """The most processors that training and evaluation may use, as Kubernetes writes them: 1500m, 2."""
    train_memory: FormField[str] = "4Gi"
    """The most memory that training and evaluation may take, as Kubernetes writes it: 4Gi, 16Gi."""
    train_gpus: FormField[str] = ""
    """GPUs (nvidia.com/gpu) for training: 1; "" asks for none."""

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

    def require_use_of_gpus(self, training: TrainingSettings) -> None:
        """Refuses GPUs that nobody would compute on.

        Raises:
            InputError: the training is on the processor, or on other machines.
        """
        if self.train_gpus in ("", "0"):
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
