"""pick: the models of a search's trials -> the one that is best on validation."""

from kfp import dsl

from components.stage import stage


@stage("evaluate")
def pick(
    models: dsl.Input[list[dsl.Model]],
    model: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    space: str,
    sampling: str,
    trials: int,
    pick_by: str,
    seed: int,
) -> None:
    """Keeps the model of the best trial as it is. The test is not opened.

    Args:
        models: What train wrote in each trial; where a training came to nothing, why.
        model: The winner's folder.
        report: One page on all trials.
        metrics: The winner's figures on validation; the file behind it holds every trial's, as JSON.
        space: This and the next four are trials' arguments: they tell which trial a model is of.
        sampling: See trials.
        trials: See trials.
        pick_by: The figure of validation by which one wins: accuracy (or what the task has for it), macro_f1, loss.
        seed: See trials.
    """
    from pathlib import Path

    from miniml.search.picking import pick as pick_winner
    from miniml.search.plan import SearchSettings

    result = pick_winner(
        [Path(trial.path) for trial in models],
        SearchSettings(space=space, sampling=sampling, trials=trials, pick_by=pick_by, seed=seed),
        Path(model.path),
        Path(report.path),
    )
    result.save(Path(metrics.path))
    for name, value in result.scalars().items():
        metrics.log_metric(name, value)
    model.metadata.update(framework="transformers", digest=result.digest, **result.winner.metrics)
