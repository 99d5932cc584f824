"""What the overview of a use case shows: the newest publication, recent nights, open drift and what needs a person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta

from psycopg import sql
from psycopg.rows import class_row, dict_row

from nightshift.core.lifecycle.state import State
from nightshift.core.monitoring.overview import Night, OpenDrift, Overview, Problem
from nightshift.declare.use_case import UseCase
from nightshift.deployment import VERSION_ACTIONS, Deployment
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.partitions import partition_range
from nightshift.services.rules import rule_problems

NIGHTS_SHOWN = 60
DECISIONS_SHOWN = 10
CHECKED_PARTITIONS = 14
OLDEST_VERSION_DAYS = 2
"""An older version of the champion's spec means that trainings fail."""


def overview(store: ArtifactStore, warehouse: Warehouse, use_case: UseCase) -> Overview:
    """The overview of a use case. Raises StoreUnavailable, WarehouseUnavailable."""
    days = store.folders(store.step_prefix(use_case.name, "publish"))
    delivered = date.fromisoformat(max(days)) if days else None
    nights = _nights(warehouse)
    drifts = _open_drifts(warehouse)
    state = warehouse.state_as_of(delivered + timedelta(days=1)) if delivered else None
    problems = [] if delivered is None else _problems(store, use_case, delivered, nights, state)
    if delivered is not None:
        problems += _rejected_trainings(warehouse, delivered)
        problems += rule_problems(warehouse, use_case, delivered)
    return Overview(use_case, delivered, nights, drifts, problems, _decisions(warehouse))


def _nights(warehouse: Warehouse) -> list[Night]:
    query = sql.SQL(
        """
        SELECT p.partition, p.prediction_date, p.role, p.spec_id, p.model_version, p.rows::int,
            own.rows::float8 / nullif(own.predictions, 0) AS known, own.log_loss, own.expected_log_loss,
            fallback.log_loss AS fallback_log_loss
        FROM {publications} AS p
        LEFT JOIN LATERAL (
            SELECT sum(rows) AS rows, sum(predictions) AS predictions, sum(rows * log_loss) / sum(rows) AS log_loss,
                sum(rows * expected_log_loss) / sum(rows) AS expected_log_loss
            FROM {performance} AS o
            WHERE o.prediction_date = p.prediction_date AND o.role = 'published' AND o.slice_column = ''
        ) AS own ON true
        LEFT JOIN LATERAL (
            SELECT log_loss FROM {performance} AS o
            WHERE o.prediction_date = p.prediction_date AND o.role = 'fallback' AND o.slice_column = '' LIMIT 1
        ) AS fallback ON true
        WHERE p.superseded_at IS NULL ORDER BY p.partition DESC LIMIT %s
        """
    ).format(publications=warehouse.table("publications"), performance=warehouse.table("performance_daily"))
    with warehouse.connection() as connection, connection.cursor(row_factory=class_row(Night)) as cursor:
        return cursor.execute(query, [NIGHTS_SHOWN]).fetchall()


def _open_drifts(warehouse: Warehouse) -> list[OpenDrift]:
    query = sql.SQL(
        "SELECT drift, source, column_name, statistic, days, value, low, high, since, partition FROM {table} "
        "WHERE drifted AND partition = (SELECT max(partition) FROM {table}) ORDER BY abs(excess) DESC"
    ).format(table=warehouse.table("drift_daily"))
    with warehouse.connection() as connection, connection.cursor(row_factory=class_row(OpenDrift)) as cursor:
        return cursor.execute(query).fetchall()


def _decisions(warehouse: Warehouse) -> list[dict[str, object]]:
    query = sql.SQL(
        "SELECT partition, action, spec_id, model_version, decided_by FROM {} "
        "WHERE action NOT IN ('registered', 'held') ORDER BY deployment_id DESC LIMIT %s"
    ).format(warehouse.table("deployments"))
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, [DECISIONS_SHOWN]).fetchall()


def _rejected_trainings(warehouse: Warehouse, delivered: date) -> list[Problem]:
    """The specs whose newest training within the checked partitions left no version."""
    first = delivered - timedelta(days=CHECKED_PARTITIONS - 1)
    by_spec: dict[str, list[Deployment]] = defaultdict(list)
    for one in warehouse.decisions():
        if one.action in VERSION_ACTIONS and first <= one.partition <= delivered:
            by_spec[one.spec_id].append(one)
    problems = []
    for spec_id, trainings in by_spec.items():
        newest = max(trainings, key=lambda one: one.partition)
        if newest.action == "registered":
            continue
        count = len({one.partition for one in trainings if one.action != "registered"})
        what = f"the newest training of {spec_id or 'all specs'} was {newest.action} ({count} of the last partitions')"
        advice = f"see gate_results and the model card of {newest.partition}; an earlier version scores"
        problems.append(Problem(what, advice))
    return problems


def _problems(
    store: ArtifactStore, use_case: UseCase, delivered: date, nights: Sequence[Night], state: State | None
) -> list[Problem]:
    """What needs a person, the newest partition first."""
    name = use_case.name
    first = max(delivered - timedelta(days=CHECKED_PARTITIONS - 1), use_case.first_partition)
    if nights:
        first = max(first, min(night.partition for night in nights))
    partitions = partition_range(first, delivered)
    problems = []
    if state is not None and state.challenge is not None and state.challenge.awaiting is not None:
        asked = f"{state.challenge.spec_id} waits for approval since {state.challenge.awaiting}"
        problems.append(Problem(asked, f"answer task approve of {name}.promote of {state.challenge.awaiting}"))
    if state is not None and state.killed is not None:
        by = f"the kill switch is on since {state.killed.partition} ({state.killed.decided_by})"
        problems.append(Problem(by, f"the fallback serves; trigger {name}.kill_switch with state off to end it"))
    published = {night.partition for night in nights}
    stages = {"ingest": "publish", "materialize": "publish_features", "predict": "publish_predictions"}
    statuses = {stage: store.decisions(name, step, partitions) for stage, step in stages.items()}
    unpublished = []
    for day in reversed(partitions):
        rejected = [
            (stage, one.reason) for stage in stages if (one := statuses[stage][day]) and one.status == "rejected"
        ]
        if rejected:
            stage, reason = rejected[0]
            problems.append(Problem(f"{stage} rejected {day}: {reason}", f"correct it and run {name}.{stage} again"))
        elif day not in published:
            unpublished.append(day)
    if unpublished:
        days = str(unpublished[0]) if len(unpublished) == 1 else f"{len(unpublished)} partitions up to {unpublished[0]}"
        verb = "is" if len(unpublished) == 1 else "are"
        advice = f"look at {name}.predict of {unpublished[-1]}"
        problems.append(Problem(f"{days} {verb} delivered, and not published", advice))
    if nights and nights[0].role == "champion" and nights[0].version_days > OLDEST_VERSION_DAYS:
        age = f"the newest predictions are from a version {nights[0].version_days} days old"
        problems.append(Problem(age, f"look at {name}.train of {nights[0].partition}"))
    return problems
