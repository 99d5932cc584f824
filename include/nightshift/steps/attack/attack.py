"""Attack specs on past training rows: evasion, a back door, flipped labels, extraction, membership inference.

Artifact: `attacks.json` (AttackReport) and `attacks.html`. Gate results also go to the warehouse's `gate_results`,
under the spec id. A champion that fails a bound which the declared risks demand is an alert; challengers are
evaluated by `nominate`.
"""

from __future__ import annotations

import logging
from dataclasses import asdict

import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.attacks.attack_spec import attack_rows, attack_spec
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.features.training_rows import newest_rows
from nightshift.core.gates.risk import demands
from nightshift.core.lifecycle.state import state_after
from nightshift.core.monitoring.alerts import Alert
from nightshift.declare.models import ModelSpec
from nightshift.documents.attack import AttackReport
from nightshift.documents.backtest import BacktestResult
from nightshift.reports.attack_page import render
from nightshift.services.alerts import raise_alert
from nightshift.services.backtests import champion_spec, find_spec
from nightshift.services.training_rows import known_rows, load_rows
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, backtest: ArtifactRef | None = None, spec: str = "") -> ArtifactRef:
    """Commit the results of all attacks, on the training rows known by `partition`.

    Attacked are the challengers of a backtest; without one `spec` (name, id or JSON; default: the champion).
    Raises TerminalError if there are no training rows, and as `find_spec` and `fit_spec` do.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    warehouse, policy = context.warehouse, use_case.attacks
    state = state_after(warehouse.decisions(), partition)
    champion = champion_spec(use_case, state)
    if backtest is None:
        specs = [find_spec(use_case, state.specs, spec) if spec else champion]
        parts = known_rows(store, use_case, partition).parts
    else:
        specs = _challengers(store.read_document(backtest, BacktestResult))
        parts = list(store.manifest(backtest).inputs["training_rows"])
    rows = attack_rows(
        newest_rows(load_rows(store, use_case, parts), use_case.key_columns, partition), policy, use_case.training.seed
    )
    days = pc.min_max(rows.fitted[PARTITION]).as_py()
    attacked = [attack_spec(use_case, one, rows, as_of=partition, threads=settings.threads) for one in specs]
    demanded = demands(use_case.risk).attacks
    report = AttackReport(
        partition=partition,
        first=days["min"] or partition,
        last=days["max"] or partition,
        demanded=demanded,
        specs=tuple(attacked),
    )
    ref = context.commit(
        "attack",
        kind="attacks",
        files={**report.to_files(), "attacks.html": render(report, use_case.title)},
        inputs={"training_rows": parts, **({"backtest": [backtest]} if backtest else {})},
        parameters={"attacks": asdict(policy), "specs": [one.spec_id for one in specs]},
        metrics={f"{one.spec.spec_id}/{gate.gate}": gate.observed for one in attacked for gate in one.gates},
        rows=rows.fitted.num_rows + rows.unseen.num_rows,
    )
    for one in attacked:
        spec_id, failed = one.spec.spec_id, [str(gate) for gate in one.gates if gate.verdict == "fail"]
        warehouse.record_gates(partition, spec_id, one.gates, "attack")
        log.info("%s %s: %s under attack: %s", use_case.name, partition, spec_id, "; ".join(failed) or "in bounds")
        if failed and demanded and spec_id == champion.spec_id:
            message = (
                f"{use_case.name} {partition}: the champion {spec_id} fails bounds on attacks: {'; '.join(failed)}"
            )
            raise_alert(settings, use_case, Alert(partition, f"attacks:{spec_id}", message))
    return ref


def _challengers(result: BacktestResult) -> list[ModelSpec]:
    return [one.spec for one in result.series if one.role == "challenger" and not one.baseline]
