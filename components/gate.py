"""gate: figures and thresholds -> may this model be deployed?"""

from kfp import dsl

from miniml.images import image


@dsl.component(base_image=image("gate"), install_kfp_package=False)
def gate(
    metrics: dsl.Input[dsl.Metrics],
    verdict: dsl.Output[dsl.Markdown],
    min_accuracy: float,
) -> bool:
    """Decides whether the model may be deployed, and says why.

    Args:
        metrics: What evaluate wrote.
        verdict: The decision and its reasons.
        min_accuracy: The least accuracy on the test rows, as a share.

    Returns:
        Whether every rule is kept. It is unnamed on purpose: kfp.local cannot read a named output in
        dsl.If, and takes the branch for false without failing.
    """
    from pathlib import Path

    from miniml.gate import decide
    from miniml.settings import GateSettings

    decision = decide(Path(metrics.path), Path(verdict.path), GateSettings(min_accuracy=min_accuracy))
    verdict.metadata.update(verdict=decision.word, reasons=decision.reasons)
    return decision.approved
