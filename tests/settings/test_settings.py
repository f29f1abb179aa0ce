"""Settings are refused where they are made, before any work."""

from __future__ import annotations

import math
from typing import Any

import pytest

from miniml.errors import InputError
from miniml.settings.champion import ChampionSettings
from miniml.settings.compression import CompressionSettings
from miniml.settings.data import DataSettings
from miniml.settings.deployment import DeploymentSettings
from miniml.settings.gate import GateSettings
from miniml.settings.nodes import NodeSettings
from miniml.settings.training import TrainingSettings


def test_the_defaults_are_those_of_the_prototype() -> None:
    assert DataSettings().dataset_id == "Yelp/yelp_review_full"
    assert DataSettings().train_test_split_ratio == 0.2
    assert DataSettings().max_rows == 1000
    assert TrainingSettings().model_id == "google-bert/bert-base-cased"
    assert (TrainingSettings().batch_size, TrainingSettings().iterations) == (2, 200)
    assert TrainingSettings().device == "cpu"


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (DataSettings, "train_test_split_ratio", 0.0),
        (DataSettings, "train_test_split_ratio", 1.0),
        (DataSettings, "train_test_split_ratio", float("nan")),
        (DataSettings, "max_rows", -1),
        (DataSettings, "seed", -1),
        (DataSettings, "dataset_id", " "),
        (DataSettings, "row_filter", "imdb"),
        (TrainingSettings, "batch_size", 0),
        (TrainingSettings, "iterations", -1),
        (TrainingSettings, "epochs", 0),
        (TrainingSettings, "device", "gpu"),
        (TrainingSettings, "max_length", 2),
        (TrainingSettings, "learning_rate", 0.0),
        (TrainingSettings, "learning_rate", float("inf")),
        (TrainingSettings, "dropout", 1.0),
        (TrainingSettings, "frozen_layers", -2),
        (TrainingSettings, "precision", "fp8"),
        (TrainingSettings, "truncation_side", "middle"),
        (TrainingSettings, "model_id", ""),
        (TrainingSettings, "num_nodes", 0),
        (CompressionSettings, "compression", "int4"),
        (CompressionSettings, "max_loss", 1.5),
        (CompressionSettings, "student_layers", -1),
        (CompressionSettings, "distillation_epochs", 0),
        (CompressionSettings, "max_loss", 1e-300),
        (CompressionSettings, "distillation_temperature", 0.0),
        (CompressionSettings, "distillation_temperature", 1e300),
        (CompressionSettings, "distillation_temperature", math.nan),
        (CompressionSettings, "distillation_weight", 2.0),
        (CompressionSettings, "distillation_learning_rate", -1.0),
        (NodeSettings, "training_runtime", "Torch"),
        (NodeSettings, "node_resources", "cpu"),
        (NodeSettings, "node_resources", "cpu=2, cpu=4"),
        (NodeSettings, "node_resources", "memory=8GB"),
        (NodeSettings, "training_timeout", 0),
        (NodeSettings, "train_node_selector", "zone"),
        (NodeSettings, "train_node_selector", "zone=a, zone=b"),
        (GateSettings, "min_accuracy", 85.0),
        (ChampionSettings, "champion", " "),
        (ChampionSettings, "service_name", "../../secrets/mine"),
        (ChampionSettings, "namespace", "models/../kube-system"),
        (DeploymentSettings, "service_name", "My Service"),
        (DeploymentSettings, "namespace", "-a"),
        (DeploymentSettings, "max_replicas", 0),
        (DeploymentSettings, "cpu", "two"),
        (DeploymentSettings, "memory", "2GB"),
    ],
)
def test_a_wrong_value_is_refused_by_name(settings: Any, name: str, value: Any) -> None:
    with pytest.raises(InputError) as refused:
        settings(**{name: value})
    assert name in str(refused.value)
    assert str(value).strip().rpartition("=")[2] in str(refused.value)


def test_a_node_runs_a_process_for_each_gpu_or_else_one() -> None:
    nodes = NodeSettings(node_resources="cpu=4, memory=16Gi, nvidia.com/gpu=2")
    assert nodes.resources == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"}
    assert nodes.processes_per_node == 2
    assert NodeSettings(node_resources="cpu=500m").processes_per_node == 1
    assert NodeSettings().resources == {}
