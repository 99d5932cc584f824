"""Walk specs forward over past partitions, refitted and calibrated as in the nightly runs.

Artifact: `backtest.json` (BacktestResult), `losses.parquet` (one row per spec, baseline and partition) and
`backtest.html`. The losses also go to the warehouse's `backtests`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, timedelta

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.state import state_after
from nightshift.errors import ConfigurationError
from nightshift.partitions import parse_partition
from nightshift.reports.backtest_page import render
from nightshift.services.backtests import find_spec, walk_specs
from nightshift.services.candidates import candidate_specs
from nightshift.services.training_rows import known_rows, load_rows
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)

LOSSES = "losses.parquet"


def run(
    context: StepContext,
    *,
    specs: Sequence[str] | str = (),
    first: date | str | None = None,
    last: date | str | None = None,
    refit_every: int | None = None,
) -> ArtifactRef:
    """Commit the backtest of some specs, and of champion and fallback, with the labels known by `partition`.

    `specs`: names, ids or JSON, or names and ids separated by commas (default: every declared challenger). `first`,
    `last`: partitions (default: the newest `promotion.backtest_partitions` before `partition`). `refit_every`
    (default: the promotion policy's). Raises ConfigurationError, and TerminalError if there is too little history.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    policy = use_case.promotion
    to = _partition(last) or partition - timedelta(days=1)
    start = _partition(first) or to - timedelta(days=policy.backtest_partitions - 1)
    every = refit_every or policy.refit_every
    if not start <= to < partition or every < 1:
        raise ConfigurationError(
            "NS-BACKTEST-008",
            f"A backtest as of partition {partition} ends by {partition - timedelta(days=1)} (later partitions have no "
            f"labels), begins no later than it ends, and is refitted every 1 or more; this one would run from "
            f"{start} to {to}, refitted every {every}.",
        )
    warehouse = context.warehouse
    state = state_after(warehouse.decisions(), partition)
    known = known_rows(store, use_case, partition)
    searched = candidate_specs(store, use_case, partition)
    recorded = {**dict(reversed(searched.items())), **state.specs}
    texts = _names(specs) or [spec.spec_id for spec in use_case.challengers]
    result, losses = walk_specs(
        use_case,
        load_rows(store, use_case, known.parts),
        state,
        [find_spec(use_case, recorded, text) for text in texts],
        partition=partition,
        first=start,
        last=to,
        refit_every=every,
        threads=settings.threads,
        missing={day: why for day, why in known.missing.items() if day <= (to + timedelta(days=1)).isoformat()},
    )
    ref = context.commit(
        "backtest",
        kind="backtest",
        files={**result.to_files(), LOSSES: losses, "backtest.html": render(result, use_case.title)},
        inputs={"training_rows": known.parts},
        parameters={"first": start.isoformat(), "last": to.isoformat(), "refit_every": every, "specs": list(texts)},
        metrics={f"{one.spec_id}/{one.baseline or 'refitted'}/log_loss": one.log_loss for one in result.series},
        rows=losses.num_rows,
    )
    warehouse.record_backtest(ref.sha256[:16], losses)
    log.info("%s: backtest %s of %d specs, %s to %s", use_case.name, ref.sha256[:16], len(texts), start, to)
    return ref


def _names(specs: Sequence[str] | str) -> list[str]:
    if not isinstance(specs, str):
        return list(specs)
    if specs.lstrip().startswith("{"):
        return [specs]
    return [name for part in specs.split(",") if (name := part.strip())]


def _partition(day: date | str | None) -> date | None:
    return parse_partition(day) if isinstance(day, str) else day
