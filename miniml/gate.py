"""Decides whether a model may be deployed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from miniml.errors import GateError
from miniml.evaluation_result import EvaluationResult
from miniml.progress import note
from miniml.settings import GateSettings


@dataclass(frozen=True)
class Verdict:
    """The gate's answer, and why."""

    approved: bool
    reasons: list[str]
    """One sentence a rule, with its figure and its threshold."""

    @property
    def word(self) -> str:
        return "approved" if self.approved else "rejected"

    def markdown(self) -> str:
        return "\n".join([f"# {self.word.capitalize()}", "", *(f"- {reason}" for reason in self.reasons), ""])


def judge(result: EvaluationResult, settings: GateSettings) -> Verdict:
    """Holds an evaluation against the rules."""
    passed = result.accuracy.value >= settings.min_accuracy
    return Verdict(
        passed,
        [
            f"accuracy {result.accuracy.value:.4f} on {result.test_rows:,} test rows is "
            f"{'at least' if passed else 'below'} min_accuracy {settings.min_accuracy:g}"
        ],
    )


def decide(metrics_path: Path, verdict_path: Path, settings: GateSettings) -> Verdict:
    """Judges the figures that evaluate wrote, says so, and writes the verdict as Markdown."""
    verdict = judge(EvaluationResult.read(metrics_path), settings)
    verdict_path.write_text(verdict.markdown(), encoding="utf-8")
    note(f"{verdict.word}: {'; '.join(verdict.reasons)}")
    return verdict


def require_approved(
    approved: bool, result: EvaluationResult, model_digest: str, settings: GateSettings
) -> None:
    """The same check once more where it matters: right before a model goes live.

    Raises:
        GateError: the verdict given is not what the figures say, or the figures are another model's.
    """
    verdict = judge(result, settings)
    if not (approved is True and verdict.approved):
        raise GateError(
            f"the model is not deployed: the gate said approved={approved!r}, and {'; '.join(verdict.reasons)}."
        )
    if result.model_digest != model_digest:
        raise GateError(
            f"the model is not deployed: its digest is {model_digest[:12]}…, but {result.model_digest[:12]}… was "
            f"evaluated. Deploy the model that was evaluated."
        )
