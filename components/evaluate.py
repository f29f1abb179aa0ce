"""evaluate: a model and its dataset -> figures, confusion matrix, report."""

from kfp import dsl

from miniml.images import image


@dsl.component(base_image=image("evaluate"), install_kfp_package=False)
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Scores the model on the dataset's split test, which training never saw.

    Args:
        dataset: What transform wrote.
        model: What train wrote.
        metrics: The figures; the file behind it holds them all, as JSON.
        confusion_matrix: How often each class was taken for each.
        report: One page to look at.
    """
    import json
    from pathlib import Path

    from miniml.evaluation import evaluate_model
    from miniml.manifest import read
    from miniml.report import read_history, write_report

    result = evaluate_model(Path(model.path), Path(dataset.path))
    write_report(result, read(Path(model.path)), read_history(Path(model.path)), Path(report.path))
    # An artifact that is not on disk is never found again by the local cache.
    result.save(Path(metrics.path))
    Path(confusion_matrix.path).write_text(json.dumps(result.confusion_matrix))
    for name, value in result.scalars().items():
        metrics.log_metric(name, value)
    confusion_matrix.log_confusion_matrix(
        [scores.label for scores in result.classes], result.confusion_matrix
    )
