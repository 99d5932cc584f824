"""What monitoring rules are evaluated on, and what is recorded about them, in the warehouse and the object store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pyarrow as pa
from psycopg import sql
from psycopg.rows import dict_row

from nightshift.artifact import canonical_json
from nightshift.core.monitoring.alerts import Alert
from nightshift.core.monitoring.rules import SEARCH_EVERY, DayLoss, Evidence, Past, RecordedDrift, evaluate_each
from nightshift.declare.rules import DriftSignal, LossSignal, MissingPublication, Rule
from nightshift.declare.use_case import UseCase
from nightshift.documents.check_drift import ColumnDrift
from nightshift.documents.rules import RuleOutcome
from nightshift.errors import PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.partitions import partition_range

RULES_SCHEMA = pa.schema(
    [
        pa.field("rule", pa.string()),
        pa.field("action", pa.string()),
        pa.field("fired", pa.bool_()),
        pa.field("matched", pa.int64()),
        pa.field("at_least", pa.int64()),
        pa.field("of_last", pa.int64()),
        pa.field("since", pa.date32()),
        pa.field("began", pa.bool_()),
        pa.field("acted", pa.bool_()),
        pa.field("effect", pa.string()),
        pa.field("evidence", pa.string()),
    ]
)
"""Columns of rules_daily but `partition`; `evidence` is JSON."""


def read_evidence(
    store: ArtifactStore, warehouse: Warehouse, use_case: UseCase, rules: Sequence[Rule], first: date, last: date
) -> Evidence:
    """What rules need to be evaluated in the partitions first to last; only what their signals name is read.

    Losses are those of the labels that are known by now: of a partition that is evaluated again, late and corrected
    labels are in them. Raises StoreUnavailable, WarehouseUnavailable.
    """
    named = {type(signal) for rule in rules for signal in rule.signals}
    first = max(first - timedelta(days=max((rule.of_last for rule in rules), default=1) - 1), use_case.first_partition)
    return Evidence(
        drifts=_drifts(warehouse, first, last) if DriftSignal in named else {},
        losses=_losses(warehouse, first, last) if LossSignal in named else {},
        unpublished=_unpublished(store, warehouse, use_case, first, last) if MissingPublication in named else (),
    )


def _drifts(warehouse: Warehouse, first: date, last: date) -> dict[date, list[RecordedDrift]]:
    query = sql.SQL(
        "SELECT partition, drift, since, source, column_name AS column, statistic, days, value, low, high, excess "
        "FROM {} WHERE partition BETWEEN %s AND %s"
    ).format(warehouse.table("drift_daily"))
    drifts: dict[date, list[RecordedDrift]] = {}
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(query, [first, last]):
            day, kind, since = row.pop("partition"), row.pop("drift"), row.pop("since")
            drifts.setdefault(day, []).append(RecordedDrift(kind, ColumnDrift.model_validate(row), since))
    return drifts


def _losses(warehouse: Warehouse, first: date, last: date) -> dict[date, DayLoss]:
    """By the day that was predicted; means over all versions that scored it."""
    query = sql.SQL(
        "SELECT prediction_date, "
        "sum(rows) FILTER (WHERE role = 'published')::bigint, "
        "sum(rows * log_loss) FILTER (WHERE role = 'published') / sum(rows) FILTER (WHERE role = 'published'), "
        "sum(rows * expected_log_loss) FILTER (WHERE role = 'published') "
        "/ sum(rows) FILTER (WHERE role = 'published' AND expected_log_loss IS NOT NULL), "
        "max(log_loss) FILTER (WHERE role = 'fallback') "
        "FROM {} WHERE slice_column = '' AND prediction_date BETWEEN %s AND %s GROUP BY 1 "
        "HAVING bool_or(role = 'published')"
    ).format(warehouse.table("performance_daily"))
    with warehouse.connection() as connection:
        return {day: DayLoss(*numbers) for day, *numbers in connection.execute(query, [first, last])}


def _unpublished(
    store: ArtifactStore, warehouse: Warehouse, use_case: UseCase, first: date, last: date
) -> frozenset[date]:
    """Partitions that ingest has decided, after the first one that was ever published, without a publication."""
    query = sql.SQL("SELECT min(partition) FROM {}").format(warehouse.table("publications"))
    with warehouse.connection() as connection:
        row = connection.execute(query).fetchone()
    if row is None or row[0] is None:
        return frozenset()
    published = {one.partition for one in warehouse.publications(first, last)}
    decided = store.decisions(use_case.name, "publish", partition_range(max(first, row[0]), last))
    return frozenset(day for day, status in decided.items() if status is not None and day not in published)


def past(warehouse: Warehouse, partition: date, days: int) -> Past:
    """What was recorded in the `days` partitions before one."""
    newest = sql.SQL(
        "SELECT DISTINCT ON (rule) rule, since FROM {} WHERE partition < %s AND partition >= %s "
        "ORDER BY rule, partition DESC"
    ).format(warehouse.table("rules_daily"))
    searched = sql.SQL(
        "SELECT max(partition) FROM {} WHERE action = 'search' AND acted AND partition < %s AND partition > %s"
    ).format(warehouse.table("rules_daily"))
    with warehouse.connection() as connection:
        rows = connection.execute(newest, [partition, partition - timedelta(days=days)]).fetchall()
        search = connection.execute(searched, [partition, partition - timedelta(days=SEARCH_EVERY)]).fetchone()
    return Past({rule: since for rule, since in rows if since is not None}, search[0] if search else None)


def recorded(warehouse: Warehouse, first: date, last: date) -> dict[date, list[RuleOutcome]]:
    """The recorded outcomes of the partitions first to last that have any, ordered by rule."""
    query = sql.SQL(
        "SELECT partition, rule, action AS then, at_least, of_last, fired, evidence AS matches, since, began, acted, "
        "effect FROM {} WHERE partition BETWEEN %s AND %s ORDER BY partition, rule"
    ).format(warehouse.table("rules_daily"))
    outcomes: dict[date, list[RuleOutcome]] = {}
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(query, [first, last]):
            outcomes.setdefault(row.pop("partition"), []).append(RuleOutcome.model_validate(row))
    return outcomes


def explained(warehouse: Warehouse, use_case: UseCase, partition: date) -> list[RuleOutcome]:
    """The recorded outcomes of a partition, ordered by rule. Raises PartitionNotReady if it has none."""
    outcomes = recorded(warehouse, partition, partition).get(partition)
    if outcomes is None:
        raise PartitionNotReady(
            "NS-RULE-016",
            f"{use_case.name}: no rule has been evaluated for partition {partition}. {use_case.name}.check_drift does "
            "it once the partition's predictions are published.",
        )
    return outcomes


def dry_run(
    store: ArtifactStore, warehouse: Warehouse, use_case: UseCase, first: date, last: date
) -> dict[date, tuple[RuleOutcome, ...]]:
    """The outcomes that the declared rules would have had in the published partitions first to last; see
    core.monitoring.rules.evaluate_each."""
    published = [one.partition for one in warehouse.publications(first, last)]
    evidence = read_evidence(store, warehouse, use_case, use_case.rules, first, last)
    return evaluate_each(use_case.rules, published, evidence)


def record(warehouse: Warehouse, partition: date, outcomes: Sequence[RuleOutcome], alert: Alert | None) -> None:
    """Replace the rows of a partition, unless it has these rows already, and record the alert with them."""
    names = ("rule", "fired", "at_least", "of_last", "since", "began", "acted", "effect")
    rows = [
        {
            **{name: getattr(one, name) for name in names},
            "action": one.then,
            "matched": len(one.matches),
            "evidence": canonical_json([match.model_dump(mode="json") for match in one.matches]).decode(),
        }
        for one in outcomes
    ]
    table = pa.Table.from_pylist(rows, schema=RULES_SCHEMA)
    warehouse.replace_partition("rules_daily", partition, table, alert=alert)


def promotion_hold(warehouse: Warehouse, use_case: UseCase, partition: date) -> str | None:
    """Why rules hold promotions as of a partition; "" if none does, None if not all of them have been evaluated."""
    holding = {rule.name for rule in use_case.rules if rule.then == "hold"}
    if not holding:
        return ""
    outcomes = recorded(warehouse, partition, partition).get(partition, [])
    if not holding <= {one.rule for one in outcomes}:
        return None
    fired = [f"{one.rule} (since {one.since})" for one in outcomes if one.fired and one.rule in holding]
    return f"promotions are held by the monitoring rule {', '.join(fired)}" if fired else ""


def search_command(use_case: UseCase, partition: date) -> str:
    """The command that starts the search that a rule requested, where its DAG is paused."""
    return f'airflow dags trigger {use_case.name}.search --conf \'{{"partition": "{partition}"}}\''
