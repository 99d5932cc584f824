"""Judge the model on trial by the nights whose outcomes have come in.

Both models were asked about every row of a night; the outcomes of partition D + 1 say which of them
did better on the predictions of D. Nights count from the stage's first one on, if the two models of
the trial were the two that were asked and enough outcomes are known.

Artifact: `trial.json` and `trial.html`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np

from nightshift.artifact import ArtifactRef
from nightshift.core.model_life import Life, Trial, life_as_of
from nightshift.core.trial import Judgement, TrialNight, compare_night, judge_trial
from nightshift.core.trial_report import render
from nightshift.deployment import Deployment
from nightshift.errors import PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.outcomes import delivered_outcomes
from nightshift.io.shadow import SHADOW, has_shadow
from nightshift.io.training_turn import take_turn
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase, partition_range

log = logging.getLogger(__name__)


@dataclass
class Evidence:
    """What the nights of a stage showed. `missing`: why a night does not count; `read`: the artifacts behind all."""

    nights: list[TrialNight] = field(default_factory=list)
    missing: dict[date, str] = field(default_factory=dict)
    scores: list[ArtifactRef] = field(default_factory=list)
    curated: list[ArtifactRef] = field(default_factory=list)


def run(
    use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date, *, allow_undecided: bool = False
) -> ArtifactRef:
    """Commit the judgement of the trial there is as of the partition; `nothing` if there is none.

    trial.json: partition, stage, since, share, challenger (version that is judged; in standby the fresh
    champion), incumbent (its rival), champion (as of the partition, or null), models, nights, missing,
    mean_difference, bound, p_value, decision and reason; see core.trial. Raises PartitionNotReady while
    the partition before is still to decide about models, or while the newest night has no scores or no
    outcomes; with `allow_undecided` it goes on with what there is. An older night that has none never
    will, and does not count. Nor does a night under the kill switch, not even as time that went by.
    """
    warehouse = Warehouse(settings, use_case)
    undecided = take_turn(use_case, store, warehouse, partition, allow_undecided=allow_undecided)
    decisions = warehouse.decisions()
    life = life_as_of(decisions, partition)
    evidence = Evidence()
    trial: dict[str, Any] = {
        "partition": partition.isoformat(),
        "stage": None,
        "since": None,
        "share": 0.0,
        "challenger": None,
        "incumbent": None,
        "champion": life.champion.model_version if life.champion else None,
        "models": {},
    }
    judgement = Judgement("nothing", "no model is on trial")
    judged, rival = _opponents(life)
    if life.trial is not None and judged is not None and rival is not None:
        stage = life.trial.stage
        newest = partition - timedelta(days=1)
        nights = partition_range(life.trial.since + timedelta(days=1), newest)
        for night in nights:
            may_come = night == newest and not allow_undecided
            _compare(use_case, store, life.trial, night, judged, rival, evidence, may_come=may_come)
        elapsed = sum(life_as_of(decisions, night).killed is None for night in nights)
        judgement = judge_trial(stage, evidence.nights, elapsed, use_case.trial)
        trial |= {"stage": stage, "since": life.trial.since.isoformat(), "share": life.trial.share}
        trial |= {"challenger": judged.model_version, "incumbent": rival.model_version}
        trial["models"] = {one.model_version: one.model.model_dump() for one in (judged, rival) if one.model}
    trial |= {
        "nights": [night.to_json() for night in evidence.nights],
        "missing": [{"partition": day.isoformat(), "reason": why} for day, why in evidence.missing.items()],
        "mean_difference": judgement.mean_difference,
        "bound": judgement.bound,
        "p_value": judgement.p_value,
        "decision": judgement.decision,
        "reason": judgement.reason,
    }
    log.info("%s %s: trial of %s: %s (%s)", use_case.name, partition, trial["challenger"], *_said(judgement))
    sources = [(f"scores of {store.manifest(ref).partition}", ref.uri) for ref in evidence.scores]
    return store.commit(
        use_case=use_case.name,
        step="judge_trial",
        partition=partition,
        kind="trial",
        files={
            "trial.json": json.dumps(trial, indent=1).encode(),
            "trial.html": render(trial, title=use_case.title, sources=sources),
        },
        inputs={"scores": evidence.scores, "curated": evidence.curated},
        parameters={"undecided": undecided.isoformat()} if undecided else {},
        metrics={"decision": judgement.decision, "nights": len(evidence.nights)},
        rows=sum(night.rows for night in evidence.nights),
    )


def _said(judgement: Judgement) -> tuple[str, str]:
    return judgement.decision, judgement.reason


def _opponents(life: Life) -> tuple[Deployment | None, Deployment | None]:
    """The model that is judged and the one it is held against: of a fresh champion, its predecessor."""
    if life.trial is None:
        return None, None
    in_charge = life.champion or life.fallback
    return (in_charge, life.trial.deployment) if life.trial.stage == "standby" else (life.trial.deployment, in_charge)


def _compare(
    use_case: UseCase,
    store: ArtifactStore,
    trial: Trial,
    night: date,
    judged: Deployment,
    rival: Deployment,
    evidence: Evidence,
    *,
    may_come: bool,
) -> None:
    """Add one night to the evidence, with its comparison or with why there is none.

    Raises PartitionNotReady for what is not there if it `may_come`.
    """
    standby = trial.stage == "standby"
    serving, beside = (judged, rival) if standby else (rival, judged)
    try:
        scores = _scores(use_case, store, night, serving.model_version, beside.model_version)
        if isinstance(scores, str):
            evidence.missing[night] = scores
            return
        outcomes = delivered_outcomes(use_case, store, night + timedelta(days=1))
    except PartitionNotReady as error:
        if may_come:
            raise
        evidence.missing[night] = str(error)
        return
    key = [column.name for column in use_case.prediction_key]
    rows = store.read_table(scores, SHADOW).join(outcomes.table, keys=key, join_type="inner")
    rows = rows.sort_by([(name, "ascending") for name in key])
    evidence.scores.append(scores)
    evidence.curated.extend(ref for ref in outcomes.refs if ref not in evidence.curated)
    if rows.num_rows < max(use_case.trial.least_rows, 1):
        evidence.missing[night] = f"{rows.num_rows} outcomes are known, it takes {use_case.trial.least_rows}"
        return
    answers = [rows[name].to_numpy().astype(np.float64) for name in ("serving_score", "beside_score")]
    labels = rows[use_case.label].to_numpy().astype(np.int64)
    evidence.nights.append(compare_night(night, labels, *answers, beside_is_judged=not standby))


def _scores(use_case: UseCase, store: ArtifactStore, night: date, serving: str, beside: str) -> ArtifactRef | str:
    """The night's scores if both models were asked, else why they were not. Raises PartitionNotReady."""
    ingested = store.decision(use_case.name, "publish", night)
    if ingested is not None and ingested.status == "rejected":
        return f"the data of {night} was refused, nothing was predicted"
    scores = store.current(use_case.name, "score", night)
    manifest = store.manifest(scores)
    choice = json.loads(store.read(manifest.inputs["model_choice"][0], "model_choice.json"))
    if choice["model_version"] != serving:
        return f"{choice['model_version']} answered ({choice['role']}), not {serving}"
    if (choice.get("beside") or {}).get("model_version") != beside:
        return f"{beside} was not asked beside {serving}"
    if not has_shadow(store, scores):
        return f"{beside} could not be asked: {manifest.metrics.get('beside_absent', 'no reason was recorded')}"
    return scores
