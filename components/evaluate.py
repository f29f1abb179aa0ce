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
    champion_source: str,
    champion_digest: str,
) -> None:
    """Scores the model on the dataset's split test, which training never saw.

    Args:
        dataset: What transform wrote.
        model: What train wrote.
        metrics: The figures; the file behind it holds them all, as JSON.
        confusion_matrix: How often each class was taken for each.
        report: One page to look at.
        champion_source: Where the model is that this one has to beat; it answers the same rows.
        champion_digest: What it is signed with; empty where there is none.
    """
    import json
    from pathlib import Path

    from miniml.evaluation import evaluate_model
    from miniml.manifest import read
    from miniml.report import read_history, write_report

    result = evaluate_model(
        Path(model.path), Path(dataset.path), champion_source=champion_source, champion_digest=champion_digest
    )
    write_report(result, read(Path(model.path)), read_history(Path(model.path)), Path(report.path))
    # An artifact that is not on disk is never found again by the local cache.
    result.save(Path(metrics.path))
    Path(confusion_matrix.path).write_text(json.dumps(result.confusion_matrix))
    for name, value in result.scalars().items():
        metrics.log_metric(name, value)
    confusion_matrix.log_confusion_matrix(
        [scores.label for scores in result.classes], result.confusion_matrix
    )
