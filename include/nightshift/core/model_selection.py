"""Which of several verified models is chosen: the cheapest that is nearly as good as the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightshift.core.candidate_record import CandidateRecord
from nightshift.usecase import CompressionBudget

EQUALLY_FAST = 0.8
"""Speeds are measured, so two within this ratio count as equal, and the smaller model is taken."""


@dataclass(frozen=True)
class Selection:
    """The winner (None if no candidate may be chosen), the teacher that all are held against (None if no
    estimator was verified), and for each candidate why it won or not."""

    winner: str | None
    teacher: str | None
    reasons: dict[str, str]


def select_model(
    candidates: Sequence[CandidateRecord], teachers: Sequence[str], budget: CompressionBudget
) -> Selection:
    """Choose by the budget.

    Candidates that a gate refused or that do not exist are out, with that reason. The teacher is the one of
    `teachers` with the lowest log loss, refused or not: what others may lose is counted from it. Candidates
    that lose more than the budget allows are out; an unrefused teacher never is. Of the others, for the
    objective "bytes" the smallest wins; for "rows_per_second" the smallest of those nearly as fast as the
    fastest (EQUALLY_FAST). Ties go to the lower log loss, then by name.
    """
    possible = [c for c in candidates if c.name in teachers and not c.not_applicable]
    teacher = min(possible, key=lambda c: (c.log_loss, c.name), default=None)
    reasons = {c.name: _out(c, teacher, budget) for c in candidates}
    eligible = [c for c in candidates if not reasons[c.name]]
    if not eligible:
        return Selection(None, teacher.name if teacher else None, reasons)
    fastest = max(c.rows_per_second for c in eligible)
    contenders = eligible
    if budget.objective == "rows_per_second":
        contenders = [c for c in eligible if c.rows_per_second >= EQUALLY_FAST * fastest]
    winner = min(contenders, key=lambda c: (c.bytes, c.log_loss, c.name))
    for c in eligible:
        slower = "" if c in contenders else f"; only {c.rows_per_second / fastest:.0%} as fast as the fastest"
        larger = f"; {c.bytes / winner.bytes:.1f} times as large as {winner.name}" if c in contenders else ""
        reasons[c.name] = "within the budget" + (slower or larger if c != winner else "; chosen")
    return Selection(winner.name, teacher.name if teacher else None, reasons)


def _out(candidate: CandidateRecord, teacher: CandidateRecord | None, budget: CompressionBudget) -> str:
    """Why a candidate is out, or ""."""
    if candidate.not_applicable:
        return f"not applicable: {candidate.not_applicable}"
    if candidate.refused:
        return f"refused by {'; '.join(candidate.refused)}"
    if teacher is None:
        return "there is no teacher to hold it against: no estimator was verified"
    if candidate.name == teacher.name:
        return ""
    found = []
    if teacher.auc - candidate.auc > budget.largest_auc_loss:
        found.append(f"AUC {candidate.auc:.4f} is more than {budget.largest_auc_loss:g} below {teacher.auc:.4f}")
    if candidate.log_loss - teacher.log_loss > budget.largest_log_loss_increase:
        found.append(
            f"log loss {candidate.log_loss:.4f} is more than {budget.largest_log_loss_increase:g} "
            f"above {teacher.log_loss:.4f}"
        )
    return "; ".join(found)
