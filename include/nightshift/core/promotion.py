"""The gates between a candidate and the models in service, and what becomes of one that passed or did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nightshift.core.evaluation import Floats
from nightshift.core.model_life import Life
from nightshift.deployment import Action, GateResult, Role
from nightshift.usecase import PromotionPolicy

SAYS = {"shadow": "is in shadow", "canary": "is a canary", "standby": "stands by"}
"""What a model on trial does, in words."""


@dataclass(frozen=True)
class Rival:
    """A model in service, asked about the candidate's holdout rows: its log loss, or why there is none.

    `metrics` and `scores` are the rest of what is known of its answers to them.
    """

    role: str
    model_version: str = ""
    log_loss: float | None = None
    absence: str = ""
    metrics: Mapping[str, float] | None = None
    scores: Floats | None = None


@dataclass(frozen=True)
class Outcome:
    """What becomes of a candidate, and why in words."""

    action: Action
    role: Role
    why: str


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


def outcome(life: Life, refused: Sequence[GateResult], *, approval: bool) -> Outcome:
    """What becomes of a candidate that these mandatory gates refused (none: it passed), in this life.

    rejected: a gate refused it. shelved: another model is on trial, and two at once would share the
    nights that tell. promoted: there is no champion to be held against, and nobody need approve.
    shadow: it is scored beside whatever serves, from the next partition on.
    """
    if refused:
        return Outcome("rejected", "challenger", "; ".join(f"{gate.gate}: {gate.reason}" for gate in refused))
    if life.trial is not None:
        trial = life.trial
        return Outcome(
            "shelved",
            "challenger",
            f"it passed every mandatory gate, but {trial.deployment.model_version} {SAYS[trial.stage]} since "
            f"{trial.since}, and one model is on trial at a time",
        )
    if life.champion is None and not approval:
        return Outcome("promoted", "champion", "it passed every mandatory gate, and there was no champion")
    beside = life.serving.model_version if life.serving is not None else "nothing"
    return Outcome("shadow", "challenger", f"it passed every mandatory gate; it is scored beside {beside} from now on")


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
