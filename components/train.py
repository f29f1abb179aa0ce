"""Defines train: a dataset and a pretrained encoder -> a fine-tuned, signed model folder."""

from typing import Any

from kfp import dsl

from components.stage import stage
from miniml.settings.arguments import TAKEN_BY


@stage("train", TAKEN_BY["train"])
def train(
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    trial: str = "",
    pins: str = "",
    **settings: Any,
) -> None:
    """Fine-tunes a pretrained encoder on the dataset's train split; with num_nodes above 1, in a TrainJob's pods.

    Args:
        dataset: The dataset that transform wrote.
        model: A folder: safetensors, tokenizer, config, model card, and miniml.json, which signs them.
        metrics: The losses, the validation metrics, the speed and the size of the model.
        report: One page with the curves, the settings and the machine.
        trial: In a search, a JSON object with the settings that this trial replaces, and the context of the search.
            Where the training fails with them (it diverges), model is a folder that says so, and the search goes on.
        pins: The model's version that preflight found, so that this run reads it, and the cache depends on it.
    """
    import json
    from pathlib import Path

    from miniml.train_step.step import ArtifactLocation, run_train_step

    locations = (
        ArtifactLocation(Path(dataset.path), dataset.uri),
        ArtifactLocation(Path(model.path), model.uri),
    )
    result = run_train_step(settings, trial, pins, *locations, Path(report.path))
    model.metadata.update(framework="transformers", digest=result.digest, **result.metrics)
    for name, value in result.metrics.items():
        metrics.log_metric(name, value)
    # The local cache never finds an artifact without a file.
    Path(metrics.path).write_text(json.dumps(result.metrics, indent=2) + "\n")
