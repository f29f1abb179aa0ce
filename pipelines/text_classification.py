"""A dataset and a model name become a served classifier.

preflight -> champion -> transform -> train -> evaluate -> gate -> deploy

python -m pipelines.text_classification --help
"""

from typing import Any, NamedTuple

from kfp import dsl

from components.champion import champion
from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from components.preflight import preflight
from components.train import train
from components.transform import transform
from pipelines.arguments import SETTINGS
from pipelines.stage_arguments import with_arguments_of
from pipelines.stages import (
    champion_to_beat,
    dataset_after,
    judged_and_deployed,
    trained,
    with_sources_pinned,
)

STAGES = (preflight, champion, transform, train, evaluate, gate, deploy)


class Outputs(NamedTuple):
    dataset: dsl.Dataset
    data_report: dsl.HTML
    model: dsl.Model
    training_metrics: dsl.Metrics
    training_report: dsl.HTML
    metrics: dsl.Metrics
    predictions: dsl.Dataset
    confusion_matrix: dsl.ClassificationMetrics
    report: dsl.HTML
    verdict: dsl.Markdown


@dsl.pipeline(name="text-classification")
@with_arguments_of(STAGES, SETTINGS)
def text_classification(given: dict[str, Any]) -> Outputs:
    """From a dataset and a model name to a served text classifier."""
    checked, given = with_sources_pinned(given)
    to_beat = champion_to_beat(checked, given)
    data = dataset_after(to_beat, given)
    training = trained(data, given)
    evaluation, verdict = judged_and_deployed(data, training.outputs["model"], to_beat, given)
    return Outputs(
        dataset=data.outputs["dataset"],
        data_report=data.outputs["report"],
        model=training.outputs["model"],
        training_metrics=training.outputs["metrics"],
        training_report=training.outputs["report"],
        metrics=evaluation.outputs["metrics"],
        predictions=evaluation.outputs["predictions"],
        confusion_matrix=evaluation.outputs["confusion_matrix"],
        report=evaluation.outputs["report"],
        verdict=verdict.outputs["verdict"],
    )


if __name__ == "__main__":
    from pipelines.cli import main

    main(text_classification, STAGES)
