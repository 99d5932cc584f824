"""Move the best spec that passes its backtest into shadow; record why the others do not.

Artifact: `nomination.json` (Nomination). Gate results also go to the warehouse's `gate_results`, under the spec id.
"""

from __future__ import annotations

import logging
from datetime import date

import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.backtest.nomination import backtest_gates, drawn_partition, passed
from nightshift.core.lifecycle.state import State, state_after
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment, GateResult
from nightshift.documents.attack import AttackReport
from nightshift.documents.backtest import BacktestResult, BacktestSeries, Nomination
from nightshift.errors import ChampionChanged
from nightshift.io.artifact_store import ArtifactStore
from nightshift.services.backtests import champion_spec
from nightshift.services.look_ahead import look_ahead_gate
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)

STEP = "nominate"
LOSSES = "losses.parquet"


def run(context: StepContext, *, backtest: ArtifactRef, attacked: ArtifactRef) -> ArtifactRef:
    """Evaluate each challenger of a backtest by the promotion policy and record the decisions.

    `attacked`: the attacks on these challengers; they decide only where the declared risks demand it.

    Of those that pass, the one with the lowest log loss is recorded as shadow; failed ones as backtest_failed. One
    that passes while another spec is in shadow or canary, or is not the best, is left for a later nomination. Raises
    ChampionChanged, having recorded nothing, if the champion differs from that of the backtest.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    result = store.read_document(backtest, BacktestResult)
    warehouse = context.warehouse
    decisions = warehouse.decisions()
    # Without what an earlier try recorded.
    of_this = (STEP, backtest.model_dump())
    others = [one for one in decisions if (one.decided_by, one.reason.get("backtest")) != of_this]
    state = state_after(others, partition)
    champion = champion_spec(use_case, state)
    if champion.spec_id != result.champion:
        raise ChampionChanged(
            "NS-BACKTEST-009",
            f"{use_case.name}: the backtest was compared with the champion {result.champion}, but the champion after "
            f"{partition} is {champion.spec_id}. Nothing was recorded; run the backtest again.",
        )
    challengers = [one for one in result.series if one.role == "challenger" and not one.baseline]
    look_ahead = _look_ahead(use_case, store, backtest, result)
    attacks = store.read_document(attacked, AttackReport)
    gates = {
        one.spec_id: [
            *backtest_gates(result, one.spec_id, use_case.promotion, use_case.slices),
            look_ahead,
            *(attacks.one(one.spec_id).gates if attacks.demanded else ()),
        ]
        for one in challengers
    }
    outcome = _outcomes(state, challengers, gates)
    for one in challengers:
        warehouse.record_gates(partition, one.spec_id, gates[one.spec_id], "backtest")
    decided = [_deployment(one, outcome[one.spec_id], partition, backtest, gates[one.spec_id]) for one in challengers]
    if recorded := [one for one in decided if one is not None]:
        warehouse.record_deployments(recorded, expected_champion=state.champion)
    for spec_id, (action, why) in outcome.items():
        log.info("%s %s: %s %s: %s", use_case.name, partition, spec_id, action, why)
    nomination = Nomination(
        partition=partition,
        outcomes={spec_id: action for spec_id, (action, _) in outcome.items()},
        why={spec_id: why for spec_id, (_, why) in outcome.items()},
        gates={spec_id: tuple(results) for spec_id, results in gates.items()},
    )
    return context.commit(
        STEP,
        kind="nomination",
        files=nomination.to_files(),
        inputs={"backtest": [backtest], "attacks": [attacked]},
        rows=len(challengers),
    )


def _look_ahead(use_case: UseCase, store: ArtifactStore, backtest: ArtifactRef, result: BacktestResult) -> GateResult:
    partitions = pc.unique(store.read_table(backtest, LOSSES)["partition"]).to_pylist()
    drawn = drawn_partition(partitions, f"{use_case.name} {backtest.sha256}")
    return look_ahead_gate(use_case, store, drawn, result.partition)


def _outcomes(
    state: State, challengers: list[BacktestSeries], gates: dict[str, list[GateResult]]
) -> dict[str, tuple[str, str]]:
    """Spec id -> outcome (shadow, backtest_failed or left) and reason."""
    passing = sorted((one for one in challengers if passed(gates[one.spec_id])), key=lambda one: one.log_loss)
    outcome = {}
    for one in challengers:
        failed = [gate for gate in gates[one.spec_id] if gate.verdict == "fail"]
        if failed:
            outcome[one.spec_id] = "backtest_failed", "; ".join(map(str, failed))
        elif one.spec_id in state.retired:
            outcome[one.spec_id] = "left", "it passed every gate, but is retired"
        elif state.challenge is not None and state.challenge.spec_id != one.spec_id:
            why = (
                f"it passed every gate, but {state.challenge.spec_id} is in {state.challenge.stage}: one spec at a time"
            )
            outcome[one.spec_id] = "left", why
        elif one is not passing[0]:
            outcome[one.spec_id] = "left", f"it passed every gate, but {passing[0].spec_id} has the lower log loss"
        else:
            outcome[one.spec_id] = "shadow", "it passed every gate of its backtest"
    return outcome


def _deployment(
    one: BacktestSeries, outcome: tuple[str, str], partition: date, backtest: ArtifactRef, gates: list[GateResult]
) -> Deployment | None:
    action, why = outcome
    if action == "left":
        return None
    return Deployment(
        partition=partition,
        action="shadow" if action == "shadow" else "backtest_failed",
        role="challenger",
        spec_id=one.spec_id,
        spec=one.spec,
        reason={
            "why": why,
            "backtest": backtest.model_dump(),
            "log_loss": one.log_loss,
            "gates": {gate.gate: gate.verdict for gate in gates},
        },
        decided_by=STEP,
    )
