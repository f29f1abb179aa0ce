"""Makes a component of pick: the models of a search's trials -> the one that is best on validation."""

from typing import Any

from kfp import dsl

from components.stage import stage
from miniml.settings.arguments import TAKEN_BY


@stage("evaluate", TAKEN_BY["pick"])
def pick(
    models: dsl.Input[list[dsl.Model]],
    model: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    space: str,
    **settings: Any,
) -> None:
    """Keeps the model of the best trial as it is. The test is not opened.

    Args:
        models: What train wrote in each trial; where a training came to nothing, why.
        model: The winner's folder.
        report: One page on all trials.
        metrics: The winner's figures on validation; the file behind it holds every trial's, as JSON.
        space: What the search tried. It tells, with trials, seed and options, which trial a model is of.
    """
    from pathlib import Path

    from miniml.search.picking import pick as pick_winner
    from miniml.settings.arguments import settings_given
    from miniml.settings.search import SearchSettings

    [search] = settings_given({**settings, "space": space}, SearchSettings)
    result = pick_winner([Path(trial.path) for trial in models], search, Path(model.path), Path(report.path))
    result.save(Path(metrics.path))
    for name, value in result.scalars().items():
        metrics.log_metric(name, value)
    model.metadata.update(framework="transformers", digest=result.digest, **result.winner.metrics)
