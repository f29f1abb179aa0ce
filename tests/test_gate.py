"""The gate lets through what keeps the rules, and deploy does not take its word for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from miniml.errors import GateError
from miniml.evaluation_result import ClassScores, EvaluationResult, Figure
from miniml.gate import judge, require_approved
from miniml.settings import GateSettings

RESULT = EvaluationResult(
    figures={"accuracy": Figure(0.85, 0.83, 0.87), "macro_f1": Figure(0.85, 0.83, 0.87)},
    classes=[ClassScores("bad", 0.85, 0.85, 0.85, 500), ClassScores("good", 0.85, 0.85, 0.85, 500)],
    confusion_matrix=[[425, 75], [75, 425]],
    test_rows=1000,
    majority_share=0.5,
    texts_per_second=30.0,
    model_digest="d" * 64,
    data_fingerprint="f" * 64,
    samples=[],
)


@pytest.mark.parametrize(("least", "approved"), [(0.8, True), (0.85, True), (0.8501, False), (1.0, False)])
def test_the_threshold_itself_passes(least: float, approved: bool) -> None:
    assert judge(RESULT, GateSettings(least)).approved is approved


def test_a_rejection_says_the_figure_and_the_threshold() -> None:
    verdict = judge(RESULT, GateSettings(0.9))
    assert verdict.reasons[:1] == ["accuracy 0.8500 on 1,000 test rows is below min_accuracy 0.9"]
    assert verdict.markdown().startswith("# Rejected")


def test_deploy_takes_an_approved_model() -> None:
    require_approved(True, "d" * 64, RESULT, "d" * 64, GateSettings(0.8))


@pytest.mark.parametrize("said", [False, "True", 1, None])
def test_deploy_takes_nothing_but_true_for_approved(said: object) -> None:
    with pytest.raises(GateError, match="is not deployed"):
        require_approved(said, "d" * 64, RESULT, "d" * 64, GateSettings(0.8))  # type: ignore[arg-type]


def test_deploy_does_not_believe_an_approval_that_the_figures_deny() -> None:
    with pytest.raises(GateError, match="below min_accuracy"):
        require_approved(
            True,
            "d" * 64,
            replace(RESULT, figures={"accuracy": Figure(0.79, 0.77, 0.81)}),
            "d" * 64,
            GateSettings(0.8),
        )


def test_deploy_refuses_another_model_than_was_evaluated() -> None:
    with pytest.raises(GateError, match="was evaluated"):
        require_approved(True, "e" * 64, RESULT, "e" * 64, GateSettings(0.8))
