"""A dataset and a model name become a served classifier.

preflight -> transform -> train -> evaluate -> gate -> deploy

miniml --help, or here: python -m pipelines.text_classification --help
"""

from typing import NamedTuple

from kfp import dsl

from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from components.preflight import preflight
from components.train import train
from components.transform import transform
from miniml.settings.arguments import SETTINGS
from miniml.settings.search import SearchSettings
from pipelines.form import Arguments, pipeline
from pipelines.stages import given_to, judged_and_deployed, looked_before, prepared, trained

STAGES = (preflight, transform, train, evaluate, gate, deploy)


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


@pipeline("text-classification", tuple(kind for kind in SETTINGS if kind is not SearchSettings))
def text_classification(given: Arguments) -> Outputs:
    """From a dataset and a model name to a served text classifier."""
    checked = looked_before(given)
    data = prepared(given, checked)
    training = trained(data, given, given_to(train, given, checked))
    evaluation, verdict = judged_and_deployed(data, training.outputs["model"], given, checked)
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
    from miniml.cli.main import main

    main()
