"""Which of several measured models is deployed: the cheapest that is nearly as good as the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightshift.usecase import CompressionBudget

EQUALLY_FAST = 0.8
"""Speeds are measured, so two within this ratio count as equal, and the smaller model is taken."""


@dataclass(frozen=True)
class Measured:
    """A verified candidate: quality on the holdout rows, size in bytes, rows per second of one core."""

    name: str
    auc: float
    log_loss: float
    bytes: int
    rows_per_second: float


@dataclass(frozen=True)
class Selection:
    """The winner, the teacher it is held against, and for each candidate why it won or not."""

    winner: str
    teacher: str
    reasons: dict[str, str]


def select_model(candidates: Sequence[Measured], teachers: Sequence[str], budget: CompressionBudget) -> Selection:
    """Choose by the budget.

    The teacher is the one of `teachers` with the lowest log loss. Candidates that lose more against
    it than the budget allows are out; it is never out itself. Of the others, for the objective
    "bytes" the smallest wins; for "rows_per_second" the smallest of those nearly as fast as the
    fastest (EQUALLY_FAST). Ties go to the lower log loss, then by name.
    """
    teacher = min((c for c in candidates if c.name in teachers), key=lambda c: (c.log_loss, c.name))
    reasons = {c.name: _over_budget(c, teacher, budget) for c in candidates}
    eligible = [c for c in candidates if not reasons[c.name]]
    fastest = max(c.rows_per_second for c in eligible)
    contenders = eligible
    if budget.objective == "rows_per_second":
        contenders = [c for c in eligible if c.rows_per_second >= EQUALLY_FAST * fastest]
    winner = min(contenders, key=lambda c: (c.bytes, c.log_loss, c.name))
    for c in eligible:
        slower = "" if c in contenders else f"; only {c.rows_per_second / fastest:.0%} as fast as the fastest"
        larger = f"; {c.bytes / winner.bytes:.1f} times as large as {winner.name}" if c in contenders else ""
        reasons[c.name] = "within the budget" + (slower or larger if c != winner else "; chosen")
    return Selection(winner.name, teacher.name, reasons)


def _over_budget(candidate: Measured, teacher: Measured, budget: CompressionBudget) -> str:
    """Why a candidate is out, or ""."""
    found = []
    if teacher.auc - candidate.auc > budget.largest_auc_loss:
        found.append(f"AUC {candidate.auc:.4f} is more than {budget.largest_auc_loss:g} below {teacher.auc:.4f}")
    if candidate.log_loss - teacher.log_loss > budget.largest_log_loss_increase:
        found.append(
            f"log loss {candidate.log_loss:.4f} is more than {budget.largest_log_loss_increase:g} "
            f"above {teacher.log_loss:.4f}"
        )
    return "" if candidate.name == teacher.name else "; ".join(found)
