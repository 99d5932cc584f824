"""Review challenger and champion on the labels known as of a partition.

The review waits for the predictions of the partition before, not for labels: partitions without them are included in a
later review. A challenger that would come closer to champion also waits, where the use case has rules that hold
promotions, for these rules to be evaluated.

Artifact: `review.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import partial

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.review import ADVANCING, review_partition
from nightshift.core.lifecycle.state import State, state_as_of
from nightshift.documents.promote import ReviewedLoss
from nightshift.errors import PartitionNotReady
from nightshift.partitions import partition_range
from nightshift.services.live_backtest import LiveAndBacktest, compare_with_backtest
from nightshift.services.live_scores import (
    PartitionLoss,
    ScoredPartition,
    days_predicted,
    known_labels,
    losses,
    scored_partitions,
)
from nightshift.services.night_before import undecided_before
from nightshift.services.rules import promotion_hold
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, allow_undecided: bool = False) -> ArtifactRef:
    """Commit the Review of a partition, from the state as of it and labels delivered up to it.

    Raises PartitionNotReady, unless `allow_undecided`, if the predictions of the partition before are undecided, or if
    a challenger would come closer to champion, rules that hold promotions are declared, and they have not been
    evaluated for the partition. With `allow_undecided` those of the partition before decide; if these have not been
    evaluated either, the challenger is held.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    warehouse = context.warehouse
    undecided_before(partition, ("publish_predictions",), use_case, store, warehouse, allow_undecided=allow_undecided)
    decisions = warehouse.decisions()
    state = state_as_of(decisions, partition)
    days = partition_range(_first(state, partition), partition - timedelta(days=1))
    scored = scored_partitions(store, use_case, days)
    labels, deliveries = known_labels(store, use_case, days_predicted(use_case, scored), partition)
    measured = [loss for one in scored for loss in losses(use_case, one.partition, one.rows, labels)]
    compared = _compared(context, state, scored)
    review = partial(
        review_partition,
        partition,
        state,
        _reviewed(measured, compared, state.challenge.spec_id if state.challenge else None),
        policy=use_case.promotion,
        risk=use_case.risk,
        idle={day for day in days if state_as_of(decisions, day).killed is not None},
    )
    reviewed = review()
    if reviewed.outcome in ADVANCING:
        reviewed = review(hold=_hold(context, allow_undecided=allow_undecided))
    log.info("%s %s: %s %s (%s)", use_case.name, partition, reviewed.outcome, reviewed.spec_id, reviewed.why)
    return context.commit(
        "review",
        kind="review",
        files=reviewed.to_files(),
        inputs={"scores": [one.ref for one in scored], "curated": deliveries},
        metrics={"outcome": reviewed.outcome, "spec_id": reviewed.spec_id},
    )


def _hold(context: StepContext, *, allow_undecided: bool) -> str:
    """Why monitoring rules hold promotions; "" if none does. Raises PartitionNotReady, see `run`."""
    use_case, partition, before = context.use_case, context.partition, context.partition - timedelta(days=1)
    hold = promotion_hold(context.warehouse, use_case, partition)
    if hold is None and not allow_undecided:
        raise PartitionNotReady(
            "NS-RULE-011",
            f"{use_case.name}: the rules that hold promotions have not been evaluated for partition {partition}. Run "
            f"or clear {use_case.name}.check_drift for {partition}; after the last retry those of {before} decide.",
        )
    if hold is None:
        hold = promotion_hold(context.warehouse, use_case, before)
    unknown = f"the rules that hold promotions have not been evaluated for partition {partition} or {before}"
    return unknown if hold is None else hold


def _first(state: State, partition: date) -> date:
    """The first partition to review: of the challenger's stage or of the watch, else the newest with labels."""
    since = [state.challenge.since] if state.challenge else []
    since += [state.watched_since] if state.watched_since else []
    return min([*(day + timedelta(days=1) for day in since), partition - timedelta(days=1)])


def _compared(context: StepContext, state: State, scored: Sequence[ScoredPartition]) -> Mapping[date, LiveAndBacktest]:
    """Live and backtest losses of the challenger on the newest partitions it scored whose training rows can be known.

    Training rows known by the partition before are used, so that the result does not depend on this one's training.
    """
    use_case, partition = context.use_case, context.partition
    challenge, policy = state.challenge, use_case.promotion
    if challenge is None or challenge.spec_id not in state.specs:
        return {}
    newest = partition - timedelta(days=2)
    own = [
        one
        for one in scored
        if challenge.since < one.partition <= newest and challenge.spec_id in one.rows["spec_id"].unique().to_pylist()
    ]
    needed = policy.shadow_partitions if challenge.stage == "shadow" else policy.canary_partitions
    known_by = partition - timedelta(days=1)
    spec = state.specs[challenge.spec_id]
    return compare_with_backtest(use_case, context.settings, context.store, spec, own[-needed:], known_by)


def _reviewed(
    measured: Sequence[PartitionLoss], compared: Mapping[date, LiveAndBacktest], challenger: str | None
) -> list[ReviewedLoss]:
    names = ("partition", "role", "spec_id", "model_version", "rows", "predictions", "log_loss")
    rows = []
    for one in measured:
        both = compared.get(one.partition) if one.spec_id == challenger else None
        own = {name: getattr(one, name) for name in names}
        comparison = {"raw_log_loss": both and both.live, "backtest_log_loss": both and both.backtest}
        rows.append(ReviewedLoss.model_validate(own | comparison))
    return rows
