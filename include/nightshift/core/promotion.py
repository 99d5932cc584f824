"""The gates between a candidate and production."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightshift.deployment import GateResult
from nightshift.usecase import PromotionPolicy


@dataclass(frozen=True)
class Rival:
    """A model in service, asked about the candidate's holdout rows: its log loss, or why there is none."""

    role: str
    model_version: str = ""
    log_loss: float | None = None
    absence: str = ""


def judge(auc: float, log_loss: float, rivals: Sequence[Rival], policy: PromotionPolicy) -> list[GateResult]:
    """What each gate says about a candidate with these holdout metrics.

    Gates: `least_auc`, and `no_worse_than_<role>` for each rival: candidate's log loss at most the
    rival's plus the margin, on the same rows. A gate without a rival is not applicable.
    """
    ranks = GateResult(
        gate="least_auc",
        verdict="pass" if auc >= policy.least_auc else "fail",
        observed=auc,
        bound=policy.least_auc,
        reason=f"AUC {auc:.4f} on the holdout rows; at least {policy.least_auc:g} is needed",
    )
    return [ranks, *(_against(log_loss, rival, policy.margin_log_loss) for rival in rivals)]


def passed(results: Sequence[GateResult]) -> bool:
    """Whether no gate failed."""
    return all(result.verdict != "fail" for result in results)


def _against(log_loss: float, rival: Rival, margin: float) -> GateResult:
    gate = f"no_worse_than_{rival.role}"
    if rival.log_loss is None:
        return GateResult(gate=gate, verdict="not applicable", observed=log_loss, reason=rival.absence)
    bound = rival.log_loss + margin
    return GateResult(
        gate=gate,
        verdict="pass" if log_loss <= bound else "fail",
        observed=log_loss,
        bound=bound,
        reason=f"log loss {log_loss:.4f} against {rival.log_loss:.4f} of {rival.model_version} on the same rows, "
        f"with a margin of {margin:g}",
    )
