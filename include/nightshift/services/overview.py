"""Reads what the overview of a use case shows: the newest publication, recent nights, open drift, problems."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from nightshift.artifact import Decision
from nightshift.core.lifecycle.state import state_after
from nightshift.core.monitoring.left_behind import left_behind
from nightshift.core.monitoring.overview import (
    CHECKED_PARTITIONS,
    STAGES,
    Night,
    OpenDrift,
    Overview,
    Problem,
    StageStatus,
    missing_delivery,
    model_problems,
    partition_problems,
    rejected_trainings,
    rule_problems,
)
from nightshift.declare.use_case import UseCase
from nightshift.documents.ingest import CatchUp
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.io.warehouse.reader import Reader
from nightshift.partitions import partition_range

NIGHTS_SHOWN = 60
DECISIONS_SHOWN = 10
OPEN_PARTITIONS = 7
RULE_PARTITIONS = 7


def overview(store: ArtifactStore, reader: Reader, now: datetime) -> Overview:
    """The overview of the reader's use case as of `now` (with a time zone).

    Raises StoreUnavailable, WarehouseUnavailable.
    """
    use_case = reader.use_case
    delivered = newest_delivered(store, use_case)
    nights = recent_nights(reader)
    decisions = reader.decisions()
    problems: list[Problem] = []
    under_way: list[date] = []
    if delivered is not None:
        first = max(delivered - timedelta(days=CHECKED_PARTITIONS - 1), use_case.first_partition)
        if nights:
            first = max(first, min(night.partition for night in nights))
        published = {night.partition for night in nights}
        stages = stage_statuses(store, use_case, partition_range(first, delivered), published)
        problems, under_way = partition_problems(use_case.name, list(published), stages, now)
        problems = missing_delivery(use_case, delivered, now) + problems
        state = state_after(decisions, delivered)
        challenge = state.challenge
        awaiting = (challenge.spec_id, challenge.awaiting) if challenge and challenge.awaiting else None
        problems += model_problems(use_case.name, nights, awaiting, state.killed)
        problems += rejected_trainings(decisions, delivered)
        problems += _left_behind(store, use_case, delivered)
        problems += rule_problems(use_case.name, _rules(reader, delivered))
    drifts, checked = open_drifts(reader)
    return Overview(use_case, delivered, nights, under_way, drifts, checked, problems, _decisions(reader))


def newest_delivered(store: ArtifactStore, use_case: UseCase) -> date | None:
    """The newest partition that ingest decided, or None."""
    days = store.folders(store.step_prefix(use_case.name, STAGES["ingest"]))
    return date.fromisoformat(max(days)) if days else None


def stage_statuses(
    store: ArtifactStore, use_case: UseCase, partitions: Sequence[date], published: set[date]
) -> dict[date, list[StageStatus]]:
    """The status of each stage on the way to predictions by partition.

    When a status was decided is read for partitions that are not published only.
    """
    cells = [(day, stage, step) for day in partitions for stage, step in STAGES.items()]

    def status(cell: tuple[date, str, str]) -> StageStatus:
        day, stage, step = cell
        decision = store.decision(use_case.name, step, day)
        return stage_status(store, stage, decision, with_time=day not in published)

    found: dict[date, list[StageStatus]] = {day: [] for day in partitions}
    for (day, *_), one in zip(cells, in_parallel(status, cells), strict=True):
        found[day].append(one)
    return found


def stage_status(store: ArtifactStore, stage: str, decision: Decision | None, *, with_time: bool) -> StageStatus:
    """The status that a decision states; with the time at which its artifact was written, if it has one."""
    if decision is None:
        return StageStatus(stage, None)
    decided_at = None
    if with_time and decision.ref is not None and (text := store.manifest(decision.ref).attempt.finished_at):
        decided_at = datetime.fromisoformat(text)
    return StageStatus(stage, decision.status, decision.reason, decided_at)


def recent_nights(reader: Reader, nights: int = NIGHTS_SHOWN) -> list[Night]:
    """The newest current publications with their losses, the newest first."""
    return reader.values(
        Night,
        """
        SELECT p.partition, p.prediction_date, p.role, p.spec_id, p.model_version, p.rows::int, p.published_at,
            p.dag_id, p.run_id, own.rows::float8 / nullif(own.predictions, 0) AS known, own.log_loss,
            own.expected_log_loss, fallback.log_loss AS fallback_log_loss
        FROM (
            SELECT * FROM {publications} WHERE superseded_at IS NULL ORDER BY partition DESC LIMIT %s
        ) AS p
        LEFT JOIN LATERAL (
            SELECT sum(rows) AS rows, sum(predictions) AS predictions, sum(rows * log_loss) / sum(rows) AS log_loss,
                sum(rows * expected_log_loss) / sum(rows) AS expected_log_loss
            FROM {performance_daily} AS o
            WHERE o.prediction_date = p.prediction_date AND o.role = 'published' AND o.slice_column = ''
        ) AS own ON true
        LEFT JOIN LATERAL (
            SELECT log_loss FROM {performance_daily} AS o
            WHERE o.prediction_date = p.prediction_date AND o.role = 'fallback' AND o.slice_column = '' LIMIT 1
        ) AS fallback ON true
        ORDER BY p.partition DESC
        """,
        nights,
    )


def open_drifts(reader: Reader) -> tuple[list[OpenDrift], date | None]:
    """What has drifted in the last `OPEN_PARTITIONS` checked, as it did last, the newest first; and the newest checked.

    A value that goes on is in the reference of the next partition, and may be outside its range for one night only.
    """
    drifts = reader.values(
        OpenDrift,
        "SELECT drift, source, column_name, statistic, days, value, low, high, since, partition FROM ("
        "SELECT DISTINCT ON (drift, source, column_name) * FROM {drift_daily} "
        "WHERE drifted AND partition > (SELECT max(partition) FROM {drift_daily}) - %s "
        "ORDER BY drift, source, column_name, partition DESC) AS newest ORDER BY partition DESC, abs(excess) DESC",
        OPEN_PARTITIONS,
    )
    (newest,) = reader.rows("SELECT max(partition) AS checked FROM {drift_daily}")
    return drifts, newest["checked"]


def _left_behind(store: ArtifactStore, use_case: UseCase, delivered: date) -> list[Problem]:
    """What the newest night with a list left to a person; without partitions that have been run again since."""
    window = partition_range(delivered - timedelta(days=OPEN_PARTITIONS - 1), delivered)
    lists = [one.published for one in store.decisions(use_case.name, "catch_up", window).values() if one is not None]
    newest = next((ref for ref in reversed(lists) if ref is not None), None)
    if newest is None:
        return []
    listed = store.read_document(newest, CatchUp)
    listed_at = store.manifest(newest).attempt.finished_at

    def stays(step: str, day: date) -> bool:
        decision = store.decision(use_case.name, step, day)
        ref = decision.published if decision else None
        return ref is None or store.manifest(ref).attempt.finished_at <= listed_at

    still = CatchUp(
        changed={day: files for day, files in listed.changed.items() if stays("land", day)},
        outdated={day: lacks for day, lacks in listed.outdated.items() if stays("build_features", day)},
    )
    return [one.problem for one in left_behind(use_case.name, still)]


def _rules(reader: Reader, delivered: date) -> list[dict[str, Any]]:
    """What rules did in the checked partitions; empty if the warehouse has none."""
    if not reader.has("rules_daily"):
        return []
    return reader.rows(
        "SELECT partition, rule, action, fired, acted, since FROM {rules_daily} "
        "WHERE partition > %s AND partition <= %s ORDER BY partition DESC, rule",
        delivered - timedelta(days=RULE_PARTITIONS),
        delivered,
    )


def _decisions(reader: Reader) -> list[dict[str, Any]]:
    return reader.rows(
        "SELECT partition, action, spec_id, model_version, decided_by FROM {deployments} "
        "WHERE action NOT IN ('registered', 'held') ORDER BY deployment_id DESC LIMIT %s",
        DECISIONS_SHOWN,
    )
