"""Defines pick: the models of a search's trials -> the model that is best on the validation rows."""

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
    """Copies the model of the best trial unchanged. The test rows are not read.

    Args:
        models: The models of all trials; for a training that failed, the reason.
        model: The best trial's model folder.
        report: One page on all trials.
        metrics: The best trial's validation metrics; the artifact's file holds those of all trials, as JSON.
        space: The search space. Together with trials, seed and options it determines the trials.
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
