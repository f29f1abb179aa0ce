"""gate: figures, a champion and rules -> may this model be deployed?"""

from kfp import dsl

from components.stage import stage


@stage("gate")
def gate(
    metrics: dsl.Input[dsl.Metrics],
    champion: dsl.Input[dsl.Artifact],
    verdict: dsl.Output[dsl.Markdown],
    min_accuracy: float,
    min_metrics: str,
    max_calibration_error: float,
    min_slice_accuracy: float,
    beat_baseline: bool,
    beat_majority: bool,
    error_rate: float,
    min_gain: float,
) -> bool:
    """Decides whether the model may be deployed, and says why.

    Args:
        metrics: What evaluate wrote.
        champion: What the champion stage found.
        verdict: The decision, each rule with its figure and threshold, and the digest of the model it is about.
        min_accuracy: The least accuracy on the test rows, as a share.
        min_metrics: Least values of further figures: "macro_f1=0.7, mcc=0.4".
        max_calibration_error: The most that confidence and accuracy may differ on average; 1 asks nothing.
        min_slice_accuracy: The least accuracy on every slice of the evaluation; 0 asks nothing.
        beat_baseline: Whether the model must be better than the report's baseline, beyond chance.
        beat_majority: Whether it must be better than one answer for every text, beyond chance.
        error_rate: How often, at most, a model that is no better than the champion may be let through; all challengers
            of a champion on one test share it.
        min_gain: The least gain in accuracy over the champion.

    Returns:
        Whether every rule is kept. It is unnamed on purpose: kfp.local cannot read a named output in
        dsl.If, and takes the branch for false without failing.
    """
    from pathlib import Path

    from miniml.champion import Champion
    from miniml.gate import decide
    from miniml.settings import GateSettings

    decision = decide(
        Path(metrics.path),
        Path(verdict.path),
        GateSettings(
            min_accuracy=min_accuracy,
            min_metrics=min_metrics,
            max_calibration_error=max_calibration_error,
            min_slice_accuracy=min_slice_accuracy,
            beat_baseline=beat_baseline,
            beat_majority=beat_majority,
            error_rate=error_rate,
            min_gain=min_gain,
        ),
        Champion.read(Path(champion.path)),
    )
    verdict.metadata.update(
        verdict=decision.word, reasons=decision.reasons, model_digest=decision.model_digest
    )
    return decision.approved
