"""Defines evaluate: a model and its dataset -> metrics, curves, all predictions, a report."""

from typing import Any

from kfp import dsl

from components.stage import stage
from miniml.settings.arguments import TAKEN_BY


@stage("evaluate", TAKEN_BY["evaluate"])
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    predictions: dsl.Output[dsl.Dataset],
    champion_source: str = "",
    champion_digest: str = "",
    compressed: dsl.Input[dsl.Model] = None,
    **settings: Any,
) -> None:
    """Evaluates the model on the dataset's test split, which training never saw.

    Args:
        dataset: The dataset that transform wrote.
        model: The model folder that train wrote.
        metrics: The metrics; the artifact's file holds all of them, as JSON.
        confusion_matrix: The confusion matrix (of many classes, those that are confused most), and the ROC curve of all
            classes pooled. Multi-label classification has only the curve, and regression neither. The artifact's
            file holds the matrix of all classes.
        report: The report, as one page of HTML.
        predictions: Every test row with the model's answer, as Parquet (see miniml.evaluation.predictions).
        champion_source: The champion's model folder; the champion answers the same rows. Empty where there is none.
        champion_digest: The digest of the champion's model; empty where there is none.
        compressed: What compress wrote. If there is a smaller model, it answers the same rows, and is evaluated in
            place of the model unless it is inferior; metrics says which of the two it is.
    """
    import json
    from pathlib import Path

    from miniml.champion.record import Champion
    from miniml.evaluation.evaluate import evaluate_model
    from miniml.evaluation.report import write_report
    from miniml.evaluation.smaller_model import SmallerModel
    from miniml.model.history import read_history
    from miniml.model.manifest import folder_with, holds_model, read
    from miniml.settings.arguments import settings_given
    from miniml.settings.evaluation import EvaluationSettings

    [evaluation] = settings_given(settings, EvaluationSettings)
    champion = Champion(champion_digest, champion_source)
    folders, smaller = [Path(model.path)], None
    if compressed and holds_model(Path(compressed.path)):
        folders.append(Path(compressed.path))
        smaller = SmallerModel(
            folders[1], compressed.metadata["max_loss"], compressed.metadata["speed_ratio"]
        )
    result = evaluate_model(
        folders[0], Path(dataset.path), evaluation, Path(predictions.path), champion, smaller
    )
    evaluated = folder_with(result.model_digest, folders)
    write_report(result, read(evaluated), read_history(evaluated), Path(report.path))
    # The local cache never finds an artifact without a file.
    result.save(Path(metrics.path))
    Path(confusion_matrix.path).write_text(json.dumps(result.confusion_matrix))
    for name, value in result.scalars().items():
        metrics.log_metric(name, value)
    if result.confusion_matrix:
        shown = result.confusion()
        confusion_matrix.log_confusion_matrix(shown.labels, shown.counts)
    if result.curves:
        confusion_matrix.log_roc_curve(
            result.curves.false_positive_rate, result.curves.recall, result.curves.thresholds
        )
    predictions.metadata.update(rows=result.test_rows, model_digest=result.model_digest)
