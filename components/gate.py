"""Defines gate: metrics, a champion and rules -> may this model be deployed?"""

from typing import Any

from kfp import dsl

from components.stage import stage
from miniml.settings.arguments import TAKEN_BY


@stage("gate", TAKEN_BY["gate"])
def gate(
    metrics: dsl.Input[dsl.Metrics],
    champion: dsl.Input[dsl.Artifact],
    verdict: dsl.Output[dsl.Markdown],
    **settings: Any,
) -> bool:
    """Decides whether the model may be deployed, and says why.

    Args:
        metrics: The metrics that evaluate wrote.
        champion: The champion's record that preflight wrote.
        verdict: The decision, each rule with its value and threshold, and the digest of the model.

    Returns:
        Whether the model passes every rule. The output is unnamed on purpose: kfp.local cannot read a named output in
        dsl.If, and takes the condition for false without failing.
    """
    from pathlib import Path

    from miniml.champion.record import Champion
    from miniml.gate.rules import decide
    from miniml.settings.arguments import settings_given
    from miniml.settings.gate import GateSettings

    [rules] = settings_given(settings, GateSettings)
    decision = decide(Path(metrics.path), Path(verdict.path), rules, Champion.read(Path(champion.path)))
    verdict.metadata.update(
        verdict=decision.word, reasons=decision.reasons, model_digest=decision.model_digest
    )
    return decision.approved
