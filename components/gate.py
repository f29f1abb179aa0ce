"""gate: figures and thresholds -> may this model be deployed?"""

from typing import NamedTuple

from kfp import dsl

from miniml.images import image


@dsl.component(base_image=image("gate"), install_kfp_package=False)
def gate(
    metrics: dsl.Input[dsl.Metrics],
    verdict: dsl.Output[dsl.Markdown],
    min_accuracy: float,
) -> NamedTuple("Outputs", approved=bool):  # type: ignore[valid-type]
    """Decides whether the model may be deployed, and says why.

    Args:
        metrics: What evaluate wrote.
        verdict: The decision and its reasons.
        min_accuracy: The least accuracy on the test rows, as a share.

    Returns:
        approved: Whether every rule is kept.
    """
    from pathlib import Path
    from typing import NamedTuple

    from miniml.evaluation_result import EvaluationResult
    from miniml.gate import judge
    from miniml.settings import GateSettings

    decision = judge(EvaluationResult.read(Path(metrics.path)), GateSettings(min_accuracy=min_accuracy))
    Path(verdict.path).write_text(decision.markdown(), encoding="utf-8")
    verdict.metadata.update(verdict=decision.word, reasons=decision.reasons)
    return NamedTuple("Outputs", approved=bool)(decision.approved)
