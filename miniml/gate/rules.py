"""Decides whether a model may be deployed.

Every rule that the settings ask for must pass. A rule fails if it cannot be judged, because the evaluation lacks the
metric: missing data must never open the gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from miniml.champion.record import NOBODY, Champion
from miniml.errors import GateError, InputError
from miniml.escaping import quoted
from miniml.evaluation.result import Comparison, CompressedModel, Estimate, EvaluationResult, Slice
from miniml.metrics import more_is_better
from miniml.progress import logger
from miniml.registry import Registry
from miniml.reports.markdown import bullets, heading, markdown_table, paragraph, strong
from miniml.settings.gate import GateSettings

CALIBRATION_ERROR = "calibration_error"


@dataclass(frozen=True)
class Ruling:
    """The result of one rule."""

    rule: str
    figure: str
    """The model's value, with its interval."""
    threshold: str
    """The setting and its value."""
    passed: bool
    reason: str
    """The whole ruling in one sentence."""


@dataclass(frozen=True)
class Verdict:
    """The gate's decision on a model, with its reasons."""

    rulings: list[Ruling]
    model_digest: str
    """The digest of the evaluated model, the only one that the verdict is about."""
    remarks: list[str] = field(default_factory=list)
    """Sentences that a reader needs beside the rulings."""

    @property
    def approved(self) -> bool:
        """Whether there are rulings and all of them passed."""
        return bool(self.rulings) and all(ruling.passed for ruling in self.rulings)

    @property
    def word(self) -> str:
        """The decision, "approved" or "rejected"."""
        return "approved" if self.approved else "rejected"

    @property
    def reasons(self) -> list[str]:
        """One sentence for each ruling, those that did not pass first, and then the remarks."""
        broken = [ruling.reason for ruling in self.rulings if not ruling.passed]
        kept = [ruling.reason for ruling in self.rulings if ruling.passed]
        return [*broken, *kept, *self.remarks]

    def markdown(self) -> str:
        """Returns a table of the rulings and a list of the reasons."""
        rows = [
            (one.rule, one.figure, one.threshold, "passed" if one.passed else strong("not passed"))
            for one in self.rulings
        ]
        return "\n".join(
            [
                heading(self.word.capitalize()),
                paragraph(f"Model {self.model_digest}"),
                markdown_table(("rule", "figure", "threshold", ""), rows),
                bullets(self.reasons),
            ]
        )


Rule = Callable[[EvaluationResult, GateSettings, Champion], Iterable[Ruling]]
"""Judges an evaluation by one rule; yields nothing if the settings do not ask for the rule."""


def register_rule(rule: Rule) -> Rule:
    """Adds a rule to the gate, under the function's name; usable as a decorator.

    The gate and deploy run in images of their own. They have the rule too if your package is installed in both and has
    an entry point in the group `miniml.gate_rules` that names the module (see `miniml.extensions`). A rule that cannot
    be judged must yield a `Ruling` that did not pass: missing data must never open the gate.

    Raises:
        ValueError: There is another rule of that name.
    """
    RULES.add(rule.__name__, rule)
    return rule


def judge(result: EvaluationResult, settings: GateSettings, champion: Champion = NOBODY) -> Verdict:
    """Judges an evaluation by all rules.

    Args:
        result: The model's evaluation.
        settings: The thresholds of the rules.
        champion: The model to beat, or why there is none.

    Raises:
        InputError: `min_metrics` names a metric that the evaluation does not have, or of which less is better.
    """
    rulings = [ruling for _, rule in RULES.items() for ruling in rule(result, settings, champion)]
    return Verdict(rulings, result.model_digest, _remarks(result, champion))


def decide(metrics_path: Path, verdict_path: Path, settings: GateSettings, champion: Champion) -> Verdict:
    """Judges a model, notes the verdict and writes it as Markdown.

    Args:
        metrics_path: The result that evaluate wrote.
        verdict_path: The Markdown file to write.
        settings: The thresholds of the rules.
        champion: The model to beat, or why there is none.

    Raises:
        InputError: `min_metrics` names a metric that the evaluation does not have, or of which less is better.
    """
    verdict = judge(EvaluationResult.read(metrics_path), settings, champion)
    verdict_path.write_text(verdict.markdown(), encoding="utf-8")
    logger.info(f"{verdict.word}:")
    for reason in verdict.reasons:
        logger.info(f"  {reason}")
    return verdict


def require_approved(
    approved: bool,
    signed_off: str,
    result: EvaluationResult,
    model_digest: str,
    settings: GateSettings,
    champion: Champion = NOBODY,
) -> None:
    """Judges a model again, right before it is deployed.

    Args:
        approved: The gate's verdict.
        signed_off: The digest of the model that the verdict is about.
        result: The model's evaluation.
        model_digest: The digest of the model folder to deploy.
        settings: The thresholds of the rules.
        champion: The model that the gate compared with.

    Raises:
        GateError: The model is not approved, or the verdict or the evaluation is about another model.
        InputError: `min_metrics` names a metric that the evaluation does not have, or of which less is better.
    """
    verdict = judge(result, settings, champion)
    if not (approved is True and verdict.approved):
        raise GateError(
            f"the model is not deployed: the gate said approved={approved!r}, and {'; '.join(verdict.reasons)}."
        )
    for what, digest in (("evaluated", result.model_digest), ("signed off by the gate", signed_off)):
        if digest != model_digest:
            raise GateError(
                f"the model is not deployed: its digest is {model_digest[:12]}…, but {digest[:12] or 'nothing'}… was "
                f"{what}. Deploy the model that was evaluated."
            )


def _measure(result: EvaluationResult, settings: GateSettings, _: Champion) -> Iterator[Ruling]:
    """Requires a minimum of the primary metric; numbers have no accuracy, so `min_metrics` must name one for them."""
    name, threshold = result.task.primary_metric, f"min_accuracy {settings.min_accuracy:g}"
    if not result.task.has_accuracy:
        if not settings.least:
            why = f"{result.task.many} have none. Say what they must reach: min_metrics {result.task.example_metric}"
            yield _unjudged("accuracy", threshold, why)
        return
    figure = result.figures.get(name)
    if figure is None:
        yield _unjudged(name, threshold, f"the evaluation has no {name}")
        return
    yield _at_least(name, figure, "min_accuracy", settings.min_accuracy, result.test_rows)


def _at_least(name: str, figure: Estimate, setting: str, least: float, rows: int) -> Ruling:
    # Comparisons are written so that NaN passes no rule.
    passed = figure.value >= least
    return Ruling(
        name,
        _shown(figure),
        f"{setting} {least:g}",
        passed,
        f"{name} {figure.value:.4f} on {rows:,} test rows is {'at least' if passed else 'below'} {setting} {least:g}",
    )


def _majority(result: EvaluationResult, settings: GateSettings, _: Champion) -> Iterator[Ruling]:
    """Requires the model to be significantly better than the most frequent answer for every text."""
    if not settings.beat_majority:
        return
    missing = "the evaluation has no comparison with one answer for every text"
    yield _simple_rival(
        "majority", "one answer for every text", result.majority_comparison, missing, settings
    )


def _simple_rival(
    name: str, rival: str, comparison: Comparison | None, missing: str, settings: GateSettings
) -> Ruling:
    """Judges the rule beat_<name>, which fails for the reason `missing` if there is no comparison."""
    threshold = f"beat_{name} at error_rate {settings.error_rate:g}"
    if comparison is None:
        return _unjudged(name, threshold, missing)
    return _better(name, threshold, rival, comparison, _alone(settings))


def _further_metrics(result: EvaluationResult, settings: GateSettings, _: Champion) -> Iterator[Ruling]:
    for name, least in settings.least.items():
        if name not in result.figures:
            known = ", ".join(sorted(filter(more_is_better, result.figures)))
            raise InputError(
                f"min_metrics names {quoted(name)}, which this evaluation does not have; it has: {known}. "
                f"Set min_metrics."
            )
        if not more_is_better(name):
            raise InputError(
                f"min_metrics asks for {name} of {least:g} or more, but of that less is better. Leave it out; for "
                f"calibration there is max_calibration_error."
            )
        yield _at_least(name, result.figures[name], "min_metrics", least, result.test_rows)


def _calibration(result: EvaluationResult, settings: GateSettings, _: Champion) -> Iterator[Ruling]:
    """Requires the calibration error to be at most the threshold, or not significantly above 0."""
    most = settings.max_calibration_error
    if most == 1:  # No model exceeds it.
        return
    threshold = f"max_calibration_error {most:g}"
    figure = result.figures.get(CALIBRATION_ERROR)
    if figure is None:
        yield _unjudged("calibration", threshold, f"the evaluation has no {CALIBRATION_ERROR}")
        return
    small, chance = figure.value <= most, math.isfinite(figure.value) and figure.low <= 0
    how = "at most" if small else "above"
    luck = ", but no more than a model whose probabilities are true may show on so few rows"
    yield Ruling(
        "calibration",
        _shown(figure),
        threshold,
        small or chance,
        f"calibration error {figure.value:.4f} is {how} {threshold}{luck if chance and not small else ''}",
    )


def _slices(result: EvaluationResult, settings: GateSettings, _: Champion) -> Iterator[Ruling]:
    """Requires a minimum accuracy of every slice that is large enough (`min_slice_rows`).

    The measured accuracy counts, not its interval: by the low end no small slice would ever pass; by the high end, the
    fewer rows a slice has, the worse the model might be on it.
    """
    least, judged = settings.min_slice_accuracy, result.slices
    if least == 0:
        return
    threshold = f"min_slice_accuracy {least:g}"
    if not result.task.has_accuracy:
        yield _unjudged(
            "slices", threshold, f"{result.task.many} have an error on each slice, and no accuracy"
        )
        return
    if not judged:
        yield _unjudged(
            "slices", threshold, "the evaluation has no slice that is large enough (min_slice_rows)"
        )
        return
    below = [part for part in judged if not part.figure.value >= least]
    worst = min(below or judged, key=lambda part: (not math.isnan(part.figure.value), part.figure.value))
    small = len(result.small_slices)
    among = f"of {len(judged)} slices" + (f" ({small} more are too small to judge)" if small else "")
    yield Ruling(
        "slices",
        f"{len(below)} {among} below; the worst: {_named(worst)} {_shown(worst.figure)} on {worst.rows:,} rows",
        threshold,
        not below,
        f"{len(below) or 'none'} {among} {'is' if len(below) == 1 else 'are'} below {threshold}; the worst, "
        f"{_named(worst)}, has {worst.figure.value:.4f} on {worst.rows:,} rows",
    )


def _named(part: Slice) -> str:
    return f"{quoted(part.column)} = {quoted(part.value)}"


def _baseline(result: EvaluationResult, settings: GateSettings, _: Champion) -> Iterator[Ruling]:
    """Requires the model to be significantly better than the baseline, by the same test as for the champion."""
    if not settings.beat_baseline:
        return
    missing = "the evaluation has no baseline"
    yield _simple_rival("baseline", "the baseline", result.baseline_comparison, missing, settings)


def _champion(result: EvaluationResult, settings: GateSettings, champion: Champion) -> Iterator[Ruling]:
    """Requires the model to be better than the champion, by the exact paired test, and by at least `min_gain`.

    The more challengers one champion meets on one test, the less of the error rate each may use. A smaller model of the
    champion itself need not be better, but it must not be inferior.
    """
    rule, comparison = "champion", result.comparison
    threshold = f"error_rate {settings.error_rate:g}, min_gain {settings.min_gain:g}"
    if not champion.exists:
        if comparison is not None:
            yield _unjudged(rule, threshold, "the evaluation compares with a champion that nobody has named")
        return
    if champion.digest == result.model_digest:
        yield Ruling(rule, "the same model", threshold, True, f"the model is {champion.name} itself")
        return
    if comparison is None:
        yield _unjudged(rule, threshold, f"the evaluation has no comparison with {champion.name}")
        return
    if comparison.champion_digest != champion.digest:
        yield _unjudged(rule, threshold, f"the evaluation compares with another model than {champion.name}")
        return
    smaller = result.compressed
    if smaller and smaller.served and smaller.full_digest == champion.digest:
        yield _instead(rule, champion, smaller)
        return
    rate = Rate.of_challenge(settings, comparison.challenge)
    yield _better(rule, threshold, champion.name, comparison, rate, settings.min_gain)


def _instead(rule: str, champion: Champion, smaller: CompressedModel) -> Ruling:
    """Passes a smaller model whose full model is the champion: it was asked for, and shown not to be inferior."""
    test = smaller.test
    return Ruling(
        rule,
        f"p = {test.p_value:.3g}",
        f"max_loss {test.max_loss:g}",
        test.passed,
        f"{champion.name} is the full model, of which this is a smaller one that is shown to lose less than max_loss "
        f"{test.max_loss:g}: p = {test.p_value:.3g}",
    )


@dataclass(frozen=True)
class Rate:
    """The error rate of one comparison: how often it may let a model through that is no better."""

    value: float
    words: str
    """The rate and where it comes from, for a sentence."""

    @classmethod
    def of_challenge(cls, settings: GateSettings, number: int) -> Rate:
        """Returns the error rate for the challenger with this number, from 1; 0, for unknown, counts as 1.

        Challenger k gets 1/(k(k + 1)) of `error_rate`. These parts sum up to less than 1, so that by the union bound
        all challengers together are let through wrongly no more often than `error_rate` allows.
        """
        number = max(1, number)
        value = settings.error_rate / (number * (number + 1))
        return cls(
            value, f"{value:.3g}, which error_rate {settings.error_rate:g} leaves to challenger {number}"
        )


def _alone(settings: GateSettings) -> Rate:
    return Rate(settings.error_rate, f"error_rate {settings.error_rate:g}")


def _better(
    rule: str, threshold: str, other: str, comparison: Comparison, rate: Rate, min_gain: float = -1.0
) -> Ruling:
    """Judges whether the model is significantly better than another one on the same rows, by at least `min_gain`.

    For a metric that is an error, `min_gain` is a fraction of the other model's error. -1 requires no gain.
    """
    gain, p_value = comparison.gain, comparison.p_value
    unit, of = (comparison.champion_figure, " of its error") if comparison.is_of_errors else (1.0, "")
    better, enough = p_value <= rate.value, gain.value >= min_gain * unit
    shortfalls = [
        *([] if better else [f"p = {p_value:.3g} is above {rate.words}"]),
        *([] if enough else [f"the gain is below min_gain {min_gain:g}{of}"]),
    ]
    outcome = (
        f"not shown to be better: {' and '.join(shortfalls)}"
        if shortfalls
        else f"p = {p_value:.3g} is at most {rate.words}"
    )
    return Ruling(
        rule,
        f"gain {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}), p = {p_value:.3g}",
        threshold,
        better and enough,
        f"{other} has {comparison.measure.replace('_', ' ')} {comparison.champion_figure:.4f} on the same rows; the "
        f"model gains {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}), {comparison.only_challenger:,} rows won "
        f"and {comparison.only_champion:,} lost: {outcome}",
    )


def _remarks(result: EvaluationResult, champion: Champion) -> list[str]:
    remarks = []
    if not result.task.has_accuracy:
        remarks.append(
            f"min_accuracy does not apply: the model gives {result.task.many}, which have no accuracy"
        )
    if result.learnt_rows:
        remarks.append(
            f"{result.learnt_rows:,} rows of the test were left out: the model that the training began with had seen "
            f"them"
        )
    if result.groups is not None:
        remarks.append(
            f"The test rows are of {result.groups:,} groups, and chance is counted by groups, not by rows"
        )
    if result.compressed:
        remarks.append(result.compressed.sentence)
    if result.left_out:
        remarks.append(result.left_out)
    return [*remarks, *_about_champion(result, champion), *_about_challenges(result)]


def _about_challenges(result: EvaluationResult) -> list[str]:
    comparison = result.comparison
    if comparison is None or comparison.champion_digest == result.model_digest:
        return []
    if not comparison.challenge:
        why = comparison.uncounted or "for no reason that is known"
        return [
            f"Nobody counts the challengers of this champion ({why}): the error rate holds for this one alone"
        ]
    if comparison.challenge == 1:
        return []
    return [
        f"This is challenger {comparison.challenge} of this champion on this test. Each has to show more than the one "
        f"before, for of many equal ones one is lucky; on a fresh test the count begins anew"
    ]


def _about_champion(result: EvaluationResult, champion: Champion) -> list[str]:
    if not champion.exists:
        return [f"{champion.absent}: the absolute rules decide"]
    if champion.digest == result.model_digest:
        return []
    if champion.data_fingerprint == result.data_fingerprint:
        return ["The champion was trained on the same dataset: neither has seen the test rows"]
    return [
        f"The champion was trained on another dataset ({champion.data_fingerprint[:12] or 'unknown'}, not "
        f"{result.data_fingerprint[:12]}): test rows that it may have learnt from flatter it, never the new model"
    ]


def _unjudged(rule: str, threshold: str, why: str) -> Ruling:
    return Ruling(rule, "missing", threshold, False, f"{rule} cannot be judged by {threshold}: {why}")


def _shown(figure: Estimate) -> str:
    return f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"


RULES: Registry[Rule] = Registry(
    "miniml.gate_rules",
    {
        "primary metric": _measure,
        "majority": _majority,
        "min_metrics": _further_metrics,
        "calibration": _calibration,
        "slices": _slices,
        "baseline": _baseline,
        "champion": _champion,
    },
)
"""All rules, in the order of the verdict. To add one here, write a function above and a line in this table."""
