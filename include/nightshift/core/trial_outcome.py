"""What is recorded about a judged trial, and what a person is told who must approve it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from nightshift.artifact import ArtifactRef
from nightshift.deployment import Action, Deployment, Role

DECIDED_BY = "advance_model"

ACTIONS: Mapping[str, tuple[Action, Role]] = {
    "canary": ("canary", "challenger"),
    "promote": ("promoted", "champion"),
    "withdraw": ("withdrawn", "challenger"),
    "roll_back": ("rolled_back", "champion"),
    "confirm": ("confirmed", "champion"),
}
"""What a decision of a trial is recorded as; `nothing` and `hold` are not."""


def deployment_of(trial: Mapping[str, Any], share: float, *, approval: bool) -> Deployment | None:
    """The decision to record for a trial.json, or None for `nothing` and `hold`.

    `share`: of the rows, for a canary. With `approval`, a promotion is recorded as `awaiting_approval`.
    """
    if trial["decision"] not in ACTIONS:
        return None
    action, role = ACTIONS[trial["decision"]]
    if action == "promoted" and approval:
        action, role = "awaiting_approval", "challenger"
    version = trial["incumbent"] if action == "rolled_back" else trial["challenger"]
    reason = {
        "why": trial["reason"],
        "stage": trial["stage"],
        "held_against": trial["challenger"] if action == "rolled_back" else trial["incumbent"],
        "nights": [night["partition"] for night in trial["nights"]],
        **{name: trial[name] for name in ("mean_difference", "bound", "p_value")},
    }
    return Deployment(
        partition=date.fromisoformat(trial["partition"]),
        action=action,
        role=role,
        model_version=version,
        model=ArtifactRef.model_validate(trial["models"][version]),
        replaces=trial["champion"] if action in ("promoted", "rolled_back") else None,
        reason=reason | ({"share": share} if action == "canary" else {}),
        decided_by=DECIDED_BY,
    )


def night_rows(trial: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of trial_nights for a trial.json, without their partition."""
    judged, rival = ("serving", "beside") if trial["stage"] == "standby" else ("beside", "serving")
    return [
        {
            "night": date.fromisoformat(night["partition"]),
            "stage": trial["stage"],
            "challenger": trial["challenger"],
            "incumbent": trial["incumbent"],
            "rows": night["rows"],
            "challenger_log_loss": night[f"{judged}_log_loss"],
            "incumbent_log_loss": night[f"{rival}_log_loss"],
            "difference": night["difference"],
            "decision": trial["decision"],
        }
        for night in trial["nights"]
    ]


def approval_summary(title: str, trial: Mapping[str, Any], *, hours: float, page_uri: str) -> str:
    """What a person needs to know to approve a promotion, in Markdown."""
    champion = trial["champion"]
    place = f"in place of the champion `{champion}`" if champion else "as the first champion"
    lines = [
        f"## {title}: shall `{trial['challenger']}` become champion?",
        "",
        f"It would answer from the next night on, {place}. It was scored beside `{trial['incumbent']}` and is "
        f"{trial['reason']}.",
        "",
        "| night | rows | log loss | rival's log loss | difference |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {night['partition']} | {night['rows']:,} | {night['beside_log_loss']:.4f} | "
            f"{night['serving_log_loss']:.4f} | {night['difference']:+.4f} |"
            for night in trial["nights"]
        ),
        "",
        f"Without an answer within {hours:g} hours, or if declined, it is withdrawn and everything stays as it is.",
        "",
        f"The judgement: {page_uri}",
    ]
    return "\n".join(lines)
