"""The gate lets through what keeps the rules, and deploy does not take its word for it."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from miniml.champion.record import NOBODY, Champion
from miniml.errors import GateError, InputError
from miniml.evaluation.comparison import compare
from miniml.evaluation.result import ClassScores, Comparison, Estimate, EvaluationResult, Slice
from miniml.gate.rules import CALIBRATION_ERROR, judge, require_approved
from miniml.settings.gate import GateSettings
from tests.rendered import Rendered

RESULT = EvaluationResult(
    figures={"accuracy": Estimate(0.85, 0.83, 0.87), "macro_f1": Estimate(0.85, 0.83, 0.87)},
    classes=[ClassScores("bad", 0.85, 0.85, 0.85, 500), ClassScores("good", 0.85, 0.85, 0.85, 500)],
    confusion_matrix=[[425, 75], [75, 425]],
    test_rows=1000,
    majority_share=0.5,
    texts_per_second=30.0,
    model_digest="d" * 64,
    data_fingerprint="f" * 64,
    samples=[],
    majority_comparison=Comparison("", 0.5, 425, 75, Estimate(0.35, 0.31, 0.39), 1e-60),
)


@pytest.mark.parametrize(("least", "approved"), [(0.8, True), (0.85, True), (0.8501, False), (1.0, False)])
def test_the_threshold_itself_passes(least: float, approved: bool) -> None:
    assert judge(RESULT, GateSettings(least)).approved is approved


def test_a_rejection_says_the_figure_and_the_threshold() -> None:
    verdict = judge(RESULT, GateSettings(0.9))
    assert verdict.reasons[:1] == ["accuracy 0.8500 on 1,000 test rows is below min_accuracy 0.9"]
    assert verdict.markdown().startswith("# Rejected")


CHAMPION = Champion("c" * 64, "s3://models/old", "f" * 64, "models/stars")
FLOOR = GateSettings(0.0, min_slice_accuracy=0.8)
SMALL = [Slice("length", "long", 9, Estimate(0.1, 0.0, 0.3))]


def against(won: int, lost: int, digest: str = CHAMPION.digest) -> EvaluationResult:
    """A model that answers so many rows more, and so many fewer, than the champion, of 1,000."""
    right = np.arange(1000) < 850
    challenger, champion = right.copy(), right.copy()
    champion[:won], challenger[won : won + lost] = False, False
    return replace(RESULT, comparison=compare(challenger, champion, digest))


def slices(*parts: tuple[str, int, float]) -> EvaluationResult:
    found = [
        Slice("length", value, rows, Estimate(share, share - 0.1, share + 0.1))
        for value, rows, share in parts
    ]
    return replace(RESULT, slices=found)


def with_calibration(error: float) -> EvaluationResult:
    figure = Estimate(error, error - 0.01, error + 0.01)
    return replace(RESULT, figures={**RESULT.figures, CALIBRATION_ERROR: figure})


def with_baseline(won: int, lost: int) -> EvaluationResult:
    return replace(RESULT, baseline_comparison=against(won, lost).comparison)


@pytest.mark.parametrize(
    ("result", "settings", "approved", "words"),
    [
        (RESULT, GateSettings(0.8, "macro_f1=0.85"), True, "macro_f1 0.8500 on 1,000 test rows is at least"),
        (RESULT, GateSettings(0.8, "macro_f1 = 0.86"), False, "macro_f1 0.8500 on 1,000 test rows is below"),
        (with_calibration(0.05), GateSettings(max_calibration_error=0.05), True, "is at most"),
        (with_calibration(0.051), GateSettings(max_calibration_error=0.05), False, "is above"),
        (slices(("short", 90, 0.8)), FLOOR, True, "none of 1 slices are below"),
        (slices(("short", 90, 0.79), ("long", 90, 0.9)), FLOOR, False, "1 of 2 slices is below"),
        (
            replace(slices(("short", 90, 0.81)), small_slices=SMALL),
            FLOOR,
            True,
            "1 more are too small to judge",
        ),
        (with_baseline(30, 10), GateSettings(beat_baseline=True), True, "the baseline has accuracy 0.8200"),
        (
            with_baseline(15, 10),
            GateSettings(beat_baseline=True),
            False,
            "p = 0.212 is above error_rate 0.05",
        ),
        (
            against(30, 10),
            GateSettings(),
            True,
            "30 rows won and 10 lost: p = 0.00111 is at most 0.025, which error_rate 0.05 leaves to challenger 1",
        ),
        (
            against(15, 10),
            GateSettings(),
            False,
            "not shown to be better: p = 0.212 is above 0.025, which error_rate 0.05 leaves to challenger 1",
        ),
        (against(10, 30), GateSettings(), False, "not shown to be better"),
        (against(30, 10), GateSettings(min_gain=0.02), True, "gains +0.0200"),
        (against(30, 10), GateSettings(min_gain=0.021), False, "the gain is below min_gain 0.021"),
        (against(30, 10), GateSettings(error_rate=0.001), False, "which error_rate 0.001 leaves"),
    ],
)
def test_each_rule_passes_at_its_threshold_and_says_its_figure(
    result: EvaluationResult, settings: GateSettings, approved: bool, words: str
) -> None:
    verdict = judge(result, settings, CHAMPION if result.comparison else NOBODY)
    assert verdict.approved is approved
    assert words in " ".join(verdict.reasons)


@pytest.mark.parametrize(
    ("settings", "champion", "rule"),
    [
        (GateSettings(max_calibration_error=0.1), NOBODY, "calibration"),
        (GateSettings(min_slice_accuracy=0.1), NOBODY, "slices"),
        (GateSettings(beat_baseline=True), NOBODY, "baseline"),
        (GateSettings(), CHAMPION, "champion"),
    ],
)
def test_a_rule_without_its_figure_is_broken_and_not_passed_over(
    settings: GateSettings, champion: Champion, rule: str
) -> None:
    verdict = judge(RESULT, settings, champion)
    assert not verdict.approved
    assert verdict.reasons[0].startswith(f"{rule} cannot be judged by")


def test_an_evaluation_without_accuracy_is_rejected() -> None:
    assert not judge(replace(RESULT, figures={}), GateSettings(0.0)).approved


def test_what_is_not_a_number_keeps_no_rule() -> None:
    nan = Estimate(math.nan, math.nan, math.nan)
    everything = GateSettings(0.0, "mcc=-1", 0.9, 0.1, True)
    broken = replace(
        RESULT,
        figures={"accuracy": nan, "mcc": nan, CALIBRATION_ERROR: nan},
        slices=[Slice("length", "short", 90, nan), Slice("length", "long", 90, Estimate(0.9, 0.8, 1.0))],
        baseline_comparison=Comparison("", math.nan, 1, 0, nan, math.nan),
        majority_comparison=Comparison("", math.nan, 1, 0, nan, math.nan),
        comparison=Comparison("c" * 64, math.nan, 1, 0, nan, math.nan),
    )
    verdict = judge(broken, everything, CHAMPION)
    assert [ruling.passed for ruling in verdict.rulings] == [False] * 7


def test_an_unknown_metric_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r'min_metrics names "f1", .* it has: accuracy, macro_f1\.'):
        judge(RESULT, GateSettings(min_metrics="f1=0.5"))


def test_a_minimum_of_what_should_be_small_is_refused() -> None:
    with pytest.raises(InputError, match="of that less is better"):
        judge(with_calibration(0.1), GateSettings(min_metrics=f"{CALIBRATION_ERROR}=0.5"))


def test_where_nothing_is_served_it_says_so_and_the_absolute_rules_decide() -> None:
    nothing = Champion(place="models/stars", absent="Nothing is served as models/stars")
    assert judge(RESULT, GateSettings(0.8), nothing).approved
    verdict = judge(RESULT, GateSettings(0.9), nothing)
    assert not verdict.approved
    assert verdict.reasons[-1] == "Nothing is served as models/stars: the absolute rules decide"


def test_the_very_model_that_serves_may_be_deployed_again() -> None:
    verdict = judge(RESULT, GateSettings(), replace(CHAMPION, digest=RESULT.model_digest))
    assert verdict.approved
    assert "itself" in " ".join(verdict.reasons)


def test_a_comparison_with_another_model_than_serves_is_no_comparison() -> None:
    verdict = judge(against(30, 10, digest="b" * 64), GateSettings(), CHAMPION)
    assert not verdict.approved
    assert "compares with another model" in verdict.reasons[0]
    assert not judge(against(30, 10), GateSettings(), NOBODY).approved


def test_a_champion_that_may_have_learnt_the_test_is_told() -> None:
    assert "neither has seen the test rows" in judge(against(30, 10), GateSettings(), CHAMPION).reasons[-1]
    elsewhere = replace(CHAMPION, data_fingerprint="a" * 64)
    assert "flatter it, never the new model" in judge(against(30, 10), GateSettings(), elsewhere).reasons[-1]


def test_the_verdict_is_a_table_that_names_the_model() -> None:
    shown = Rendered(judge(with_calibration(0.2), GateSettings(0.8, max_calibration_error=0.1)).markdown())
    assert "d" * 64 in shown.text
    assert ["accuracy", "0.8500 (0.8300 to 0.8700)", "min_accuracy 0.8", "passed"] in shown.rows
    assert [
        "calibration", "0.2000 (0.1900 to 0.2100)", "max_calibration_error 0.1", "not passed",
    ] in shown.rows  # fmt: skip


def test_deploy_takes_an_approved_model_and_one_figure_less_is_refused() -> None:
    for least, taken in ((0.85, True), (0.8501, False)):
        with nullcontext() if taken else pytest.raises(GateError, match="below min_accuracy"):
            require_approved(True, "d" * 64, RESULT, "d" * 64, GateSettings(least))
        assert judge(RESULT, GateSettings(least)).approved is taken


@pytest.mark.parametrize("said", [False, "True", 1, None])
def test_deploy_takes_nothing_but_true_for_approved(said: object) -> None:
    with pytest.raises(GateError, match="is not deployed"):
        require_approved(said, "d" * 64, RESULT, "d" * 64, GateSettings(0.8))  # type: ignore[arg-type]


def test_deploy_does_not_believe_an_approval_that_the_figures_deny() -> None:
    with pytest.raises(GateError, match="below min_accuracy"):
        require_approved(
            True,
            "d" * 64,
            replace(RESULT, figures={"accuracy": Estimate(0.79, 0.77, 0.81)}),
            "d" * 64,
            GateSettings(0.8),
        )


def test_deploy_refuses_another_model_than_was_signed_off() -> None:
    for signed_off in ("e" * 64, ""):
        with pytest.raises(GateError, match="was signed off by the gate"):
            require_approved(True, signed_off, RESULT, "d" * 64, GateSettings(0.8))


def test_deploy_judges_against_the_champion_too() -> None:
    with pytest.raises(GateError, match="not shown to be better"):
        require_approved(True, "d" * 64, against(15, 10), "d" * 64, GateSettings(0.8), CHAMPION)


def test_deploy_refuses_another_model_than_was_evaluated() -> None:
    with pytest.raises(GateError, match="was evaluated"):
        require_approved(True, "e" * 64, RESULT, "e" * 64, GateSettings(0.8))


def test_a_coin_of_two_classes_is_rejected_though_it_reaches_min_accuracy() -> None:
    coin = replace(
        RESULT,
        figures={"accuracy": Estimate(0.51, 0.48, 0.54)},
        majority_comparison=compare(np.arange(1000) < 510, np.arange(1000) >= 500, ""),
    )
    verdict = judge(coin, GateSettings())
    assert not verdict.approved
    assert "one answer for every text has accuracy 0.5000" in verdict.reasons[0]
    assert judge(coin, GateSettings(beat_majority=False)).approved
    assert "cannot be judged" in judge(replace(coin, majority_comparison=None), GateSettings()).reasons[0]


def test_a_calibration_error_that_may_be_noise_breaks_no_rule() -> None:
    noisy = replace(RESULT, figures={**RESULT.figures, CALIBRATION_ERROR: Estimate(0.07, 0.0, 0.15)})
    verdict = judge(noisy, GateSettings(max_calibration_error=0.05))
    assert verdict.approved
    assert "no more than a model whose probabilities are true may show" in " ".join(verdict.reasons)


def test_the_seventh_challenger_has_to_show_more_than_the_first_and_the_verdict_says_so() -> None:
    first = against(30, 10).comparison
    assert first is not None
    seventh = replace(RESULT, comparison=replace(first, challenge=7))
    verdict = judge(seventh, GateSettings(), CHAMPION)
    assert not verdict.approved
    assert "is above 0.000893, which error_rate 0.05 leaves to challenger 7" in verdict.reasons[0]
    assert "on a fresh test the count begins anew" in verdict.markdown()
    uncounted = replace(RESULT, comparison=replace(first, challenge=0, uncounted="no room"))
    assert (
        "Nobody counts the challengers of this champion (no room)"
        in judge(uncounted, GateSettings(), CHAMPION).markdown()
    )


def test_what_left_the_test_and_what_it_is_made_of_is_said() -> None:
    words = judge(replace(RESULT, learnt_rows=72, groups=40), GateSettings()).markdown()
    assert "72 rows of the test were left out" in words
    assert "of 40 groups" in words
