"""The TrainJob that trains on several nodes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.checks import require_at_least, require_quantity


@dataclass(frozen=True)
class NodeSettings:
    """The TrainJob that trains on several nodes; of no account where `num_nodes` is 1."""

    training_runtime: str = "torch-distributed"
    """The runtime of the nodes' TrainJob. Kubeflow Trainer's own for PyTorch, or another one of its
    ClusterTrainingRuntimes (or of the namespace)."""
    node_resources: str = ""
    """What each node gets, as requests and limits: "cpu=4, memory=16Gi, nvidia.com/gpu=1". It runs a process for each
    GPU, or else one. "" leaves it to the runtime."""
    training_timeout: int = 86_400
    """Seconds after which the cluster ends the training: a safety net, for a step that was killed cannot."""
    keep_train_job: bool = False
    """Leaves the finished TrainJob and its pods on the cluster, to be looked at."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", self.training_runtime):
            raise InputError(
                f"training_runtime {shown(self.training_runtime)} cannot name a runtime. Take 'torch-distributed', or "
                f"see which there are: kubectl get clustertrainingruntimes."
            )
        require_at_least("training_timeout", self.training_timeout, 1, "It is a number of seconds.")
        _ = self.resources  # Refuses what cannot be read.

    @property
    def resources(self) -> dict[str, str]:
        """`node_resources` by name."""
        found: dict[str, str] = {}
        for entry in filter(None, (part.strip() for part in self.node_resources.split(","))):
            name, equals, quantity = (part.strip() for part in entry.partition("="))
            if not re.fullmatch(r"[\w./-]+", name) or not equals or name in found:
                raise InputError(
                    f"node_resources {shown(self.node_resources)} cannot be read at {shown(entry)}. Write each "
                    f"resource once, with commas between: cpu=4, memory=16Gi, nvidia.com/gpu=1."
                )
            require_quantity(f"node_resources {name}", quantity)
            found[name] = quantity
        return found

    @property
    def processes_per_node(self) -> int:
        gpus = (quantity for name, quantity in self.resources.items() if name.endswith("/gpu"))
        return next((int(quantity) for quantity in gpus if quantity.isdigit() and int(quantity)), 1)
