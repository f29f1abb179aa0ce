"""Settings of the nodes of a cluster that a training runs on, and of the TrainJob that trains on several."""

from __future__ import annotations

import re
from dataclasses import dataclass

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.checks import require_at_least, require_quantity
from miniml.settings.node_labels import node_labels


@dataclass(frozen=True)
class NodeSettings:
    """The nodes that a training runs on. All but `train_node_selector` have no effect where `num_nodes` is 1."""

    training_runtime: str = "torch-distributed"
    """The Kubeflow Trainer runtime of the TrainJob: a ClusterTrainingRuntime, or a TrainingRuntime of the namespace."""
    node_resources: str = ""
    """Resources of each node, as requests and limits: "cpu=4, memory=16Gi, nvidia.com/gpu=1"; "" leaves them to the
    runtime. A node runs one process for each GPU, or a single one without GPUs."""
    training_timeout: int = 86_400
    """Seconds after which the cluster ends the training, even where the train step was killed and cannot."""
    keep_train_job: bool = False
    """Keeps the finished TrainJob and its pods on the cluster for inspection."""
    train_node_selector: str = ""
    """Labels of the cluster's nodes that may run a training: "nvidia.com/gpu.product=NVIDIA-L4, zone=a"; "" allows all.
    The taint nvidia.com/gpu, which keeps others off nodes with GPUs, is tolerated by whatever asks for GPUs."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", self.training_runtime):
            raise InputError(
                f"training_runtime {shown(self.training_runtime)} cannot name a runtime. Take 'torch-distributed', or "
                f"see which there are: kubectl get clustertrainingruntimes."
            )
        require_at_least("training_timeout", self.training_timeout, 1, "It is a number of seconds.")
        _ = self.resources, self.node_labels  # Refuses what cannot be read.

    @property
    def resources(self) -> dict[str, str]:
        """The quantities in `node_resources`, by the resource's name.

        Raises:
            InputError: `node_resources` cannot be read.
        """
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
    def node_labels(self) -> dict[str, str]:
        """The labels in `train_node_selector`, by name.

        Raises:
            InputError: `train_node_selector` cannot be read.
        """
        return node_labels("train_node_selector", self.train_node_selector)

    @property
    def processes_per_node(self) -> int:
        """The number of processes on each node: one for each of its GPUs, or a single one."""
        gpus = (quantity for name, quantity in self.resources.items() if name.endswith("/gpu"))
        return next((int(quantity) for quantity in gpus if quantity.isdigit() and int(quantity)), 1)
