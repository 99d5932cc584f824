"""What a use case's pipeline and models look like now, as gauges in Prometheus's text format.

A dozen queries and one listing per stage, of the partitions since the newest publication: the costs do not grow with
the history. Moments are seconds since the epoch, as is usual there; partitions are the midnight (UTC) that they begin
with, so that `time() - x` and differences of partitions can be computed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, LiteralString

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from psycopg import sql
from psycopg.rows import dict_row

from nightshift.core.lifecycle.state import state_after
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment
from nightshift.errors import NightshiftError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.partitions import parse_partition
from nightshift.pipeline import STAGES
from nightshift.settings import Settings

log = logging.getLogger(__name__)

WEEK = timedelta(days=7)
NEWEST_SHOWN = 14
"""Partitions of a stage whose status is read."""

GAUGES = {
    "up": "1 if the use case's numbers could be read, 0 if its warehouse or the object store failed",
    "published_partition_timestamp_seconds": "Newest partition whose predictions are published",
    "publication_timestamp_seconds": "When the newest predictions were published",
    "publication_rows": "Rows of the newest publication",
    "publication_by_fallback": "1 if the fallback scored the newest publication, 0 if the champion did",
    "publication_version_age_partitions": "Age of the version that scored the newest publication, in partitions",
    "publication_overdue": "1 if a partition's predictions are not published although its deadline is over",
    "publication_partitions_behind": "Partitions that are due by now and later than the newest publication",
    "stage_partition_timestamp_seconds": "Newest partition that the stage published",
    "stage_rejected_partitions": "Rejected ones among the stage's newest partitions, at most 14",
    "matured_partition_timestamp_seconds": "Newest partition with labels for its predictions",
    "log_loss": "Log loss of the newest partition with labels (natural logarithm)",
    "expected_log_loss": "Log loss that the scores of that partition promised",
    "auc": "Area under the ROC curve of that partition",
    "calibration_gap": "Mean score minus share of positive labels of that partition",
    "label_share": "Share of that partition's predictions with a known label",
    "drift_partition_timestamp_seconds": "Newest partition whose drift is recorded",
    "open_drifts": "Columns that have drifted in that partition",
    "feed_delivery_timestamp_seconds": "Newest delivery of the feed that was read",
    "feed_rows": "Rows that the feed delivered to the newest recorded partition",
    "feed_quarantined_share": "Share of those rows in quarantine",
    "step_seconds": "Wall clock of the step's successful try, newest recorded partition",
    "step_tries": "Number of that try",
    "step_rows": "Rows that the step states for its artifact",
    "step_bytes": "Size of the step's artifact",
    "kill_switch": "1 while the kill switch is on",
    "approval_waiting": "1 while a spec waits for a person's approval",
    "rule_fired": "1 if the monitoring rule fired in the newest partition that has rules evaluated",
}
"""Names, without the prefix nightshift_, and what they are. Every one has the label use_case."""


@dataclass(frozen=True)
class Sample:
    """One value of the gauge `name`; `labels` besides use_case."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def metrics_text(
    use_cases: Sequence[UseCase], settings: Settings, store: ArtifactStore, now: datetime, accept: str = ""
) -> tuple[bytes, str]:
    """The gauges of the use cases at `now`, and the media type, chosen by the request's Accept header.

    If a use case's stores fail, its `nightshift_up` is 0 and the others are complete.
    """
    samples: list[tuple[str, Sample]] = []
    for use_case in use_cases:
        try:
            own = list(use_case_samples(use_case, Warehouse(settings, use_case), store, now))
            own.append(Sample("up", 1))
        except NightshiftError:
            log.exception("%s: the metrics could not be read", use_case.name)
            own = [Sample("up", 0)]
        samples += [(use_case.name, one) for one in own]
    encode, media_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(Families(samples))
    return encode(registry), media_type


class Families:
    """A collector of the client library: one family a gauge."""

    def __init__(self, samples: Sequence[tuple[str, Sample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families in the order of GAUGES, those without samples included."""
        for name, text in GAUGES.items():
            own = [(use_case, one) for use_case, one in self._samples if one.name == name]
            labels = ["use_case", *(own[0][1].labels if own else ())]
            family = GaugeMetricFamily(f"nightshift_{name}", text, labels=labels)
            for use_case, one in own:
                family.add_metric([use_case, *one.labels.values()], one.value)
            yield family


def use_case_samples(use_case: UseCase, warehouse: Warehouse, store: ArtifactStore, now: datetime) -> Iterator[Sample]:
    """Every gauge of a use case but `up`. Raises StoreUnavailable, WarehouseUnavailable, ConfigurationError."""
    publication = next(iter(_rows(warehouse, _PUBLICATION)), None)
    newest = publication["partition"] if publication else None
    if publication:
        yield from _publication(publication)
    due = use_case.due_partition(now)
    behind = 0 if due is None else (due - (newest or use_case.first_partition - timedelta(days=1))).days
    yield Sample("publication_overdue", behind > 0)
    yield Sample("publication_partitions_behind", max(behind, 0))
    yield from _stages(use_case, store, newest)
    yield from _performance(_rows(warehouse, _PERFORMANCE))
    for row in _rows(warehouse, _DRIFT):
        yield Sample("open_drifts", row["drifted"], {"drift": row["drift"]})
    for row in _rows(warehouse, _DRIFT_PARTITION):
        yield Sample("drift_partition_timestamp_seconds", midnight(row["partition"]))
    yield from _feeds(_rows(warehouse, _FEEDS))
    yield from _steps(_rows(warehouse, _STEPS))
    yield from _lifecycle(warehouse.spec_decisions())
    for row in _rows(warehouse, _RULES) if _has_rules(warehouse) else ():
        yield Sample("rule_fired", row["fired"], {"rule": row["rule"], "action": row["action"]})


def midnight(day: date) -> float:
    """The beginning of a day in UTC, in seconds since the epoch."""
    return datetime.combine(day, time(), UTC).timestamp()


_PUBLICATION = """
SELECT partition, published_at, rows, role, model_version FROM {publications}
WHERE superseded_at IS NULL ORDER BY partition DESC LIMIT 1
"""

_PERFORMANCE = """
SELECT partition, role, count(*) AS versions, max(auc) AS auc, sum(rows)::float8 / sum(predictions) AS label_share,
    sum(rows * log_loss) / sum(rows) AS log_loss, sum(rows * expected_log_loss) / sum(rows) AS expected_log_loss,
    sum(rows * (mean_score - label_rate)) / sum(rows) AS calibration_gap
FROM {performance_daily}
WHERE slice_column = '' AND prediction_date = (
    SELECT max(prediction_date) FROM {performance_daily} WHERE role = 'published' AND rows > 0
)
GROUP BY partition, role HAVING sum(rows) > 0
"""

_DRIFT = """
SELECT drift, count(*) FILTER (WHERE drifted) AS drifted FROM {drift_daily}
WHERE partition = (SELECT max(partition) FROM {drift_daily}) GROUP BY drift
"""
_DRIFT_PARTITION = "SELECT max(partition) AS partition FROM {drift_daily} HAVING count(*) > 0"

_FEEDS = """
SELECT DISTINCT ON (feed) feed, delivery, delivered, quarantined FROM {feeds_daily}
WHERE partition > (SELECT max(partition) - 7 FROM {feeds_daily}) ORDER BY feed, partition DESC
"""

_STEPS = """
SELECT DISTINCT ON (step, variant) stage, step, variant, seconds, tries, rows, bytes FROM {pipeline_daily}
WHERE status = 'published' AND partition > (SELECT max(partition) - 7 FROM {pipeline_daily})
ORDER BY step, variant, partition DESC
"""

_RULES = """
SELECT rule, action, fired FROM {rules_daily} WHERE partition = (SELECT max(partition) FROM {rules_daily}) ORDER BY rule
"""


def _has_rules(warehouse: Warehouse) -> bool:
    with warehouse.connection() as connection:
        return warehouse_schema.exists(connection, warehouse.table("rules_daily"))


def _rows(warehouse: Warehouse, query: LiteralString) -> list[dict[str, Any]]:
    names = ("publications", "performance_daily", "drift_daily", "feeds_daily", "pipeline_daily", "rules_daily")
    statement = sql.SQL(query).format(**{name: warehouse.table(name) for name in names})
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement).fetchall()


def _publication(row: Mapping[str, Any]) -> Iterator[Sample]:
    trained = date.fromisoformat(row["model_version"][:10])
    yield Sample("published_partition_timestamp_seconds", midnight(row["partition"]))
    yield Sample("publication_timestamp_seconds", row["published_at"].timestamp())
    yield Sample("publication_rows", row["rows"])
    yield Sample("publication_by_fallback", row["role"] == "fallback")
    yield Sample("publication_version_age_partitions", (row["partition"] - trained).days)


def _stages(use_case: UseCase, store: ArtifactStore, published: date | None) -> Iterator[Sample]:
    """Freshness of what each stage leaves, from the statuses of its last deciding step."""
    after = (published - WEEK).isoformat() if published else ""
    for stage in STAGES:
        if not stage.nightly:
            continue
        step = stage.decided_by or [one.name for one in stage.steps if one.decides][-1]
        days = store.folders(store.step_prefix(use_case.name, step), after=after)[-NEWEST_SHOWN:]
        statuses = store.decisions(use_case.name, step, [parse_partition(day) for day in days])
        newest = [day for day, status in statuses.items() if status and status.published]
        rejected = [day for day, status in statuses.items() if status and status.status == "rejected"]
        labels = {"stage": stage.name}
        yield Sample("stage_rejected_partitions", len(rejected), labels)
        if newest:
            yield Sample("stage_partition_timestamp_seconds", midnight(newest[-1]), labels)


def _performance(rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    for row in rows:
        labels = {"role": row["role"]}
        if row["role"] == "published":
            yield Sample("matured_partition_timestamp_seconds", midnight(row["partition"]))
            yield Sample("label_share", row["label_share"])
        for name in ("log_loss", "expected_log_loss", "calibration_gap"):
            if row[name] is not None:
                yield Sample(name, row[name], labels)
        # Those of a canary and of the champion, on different rows, cannot be combined.
        if row["versions"] == 1 and row["auc"] is not None:
            yield Sample("auc", row["auc"], labels)


def _feeds(rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    for row in rows:
        labels = {"feed": row["feed"]}
        yield Sample("feed_rows", row["delivered"], labels)
        if row["delivery"] is not None:
            yield Sample("feed_delivery_timestamp_seconds", midnight(row["delivery"]), labels)
        if row["quarantined"] is not None:
            yield Sample("feed_quarantined_share", row["quarantined"] / max(row["delivered"], 1), labels)


def _steps(rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    for row in rows:
        labels = {name: row[name] for name in ("stage", "step", "variant")}
        for name in ("seconds", "tries", "rows", "bytes"):
            yield Sample(f"step_{name}", row[name], labels)


def _lifecycle(decisions: Sequence[Deployment]) -> Iterator[Sample]:
    state = state_after(decisions, max((one.partition for one in decisions), default=date.min))
    yield Sample("kill_switch", state.killed is not None)
    yield Sample("approval_waiting", state.challenge is not None and state.challenge.awaiting is not None)
