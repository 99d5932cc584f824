"""Compute every feature view of a partition in one pass over the curated deliveries up to it.

Artifact: `<view>.parquet`, see core.feature_computation, and `summary.parquet`, the values of the delivered rows and
of the features (core.monitoring.day_summary). Inputs are the curated partitions read; partitions of the window without
data (rejected, or undecided) are in `parameters.missing`.
"""

from __future__ import annotations

import logging
from datetime import date, timedelta

from nightshift.artifact import ArtifactRef
from nightshift.core.features.feature_computation import compute_features, without_monitored
from nightshift.declare.use_case import UseCase
from nightshift.errors import PartitionRejected
from nightshift.io.artifact_store import ArtifactStore
from nightshift.partitions import parse_partition, partition_range
from nightshift.services.curated import load_feeds
from nightshift.services.day_summaries import SUMMARY, summary_of_features
from nightshift.steps.context import StepContext

STEP = "build_features"

log = logging.getLogger(__name__)


def run(context: StepContext, *, allow_undecided: bool = False) -> ArtifactRef:
    """Commit the feature tables of the partition.

    Raises PartitionNotReady if this partition is undecided, or an earlier one of the lookback window that
    was not missing for the previous partition already; with `allow_undecided`, undecided earlier ones are left out.
    Raises PartitionRejected if this one was rejected, FeatureContractError if a query does not run.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    features = use_case.features
    first = partition - timedelta(days=features.lookback_days - 1)
    earlier = partition_range(first, partition - timedelta(days=1))
    undecided = earlier if allow_undecided else _missing_before(use_case, store, partition)
    feeds = load_feeds(store, use_case, use_case.feed_names, first, partition, may_be_undecided=undecided)
    missing = {day: reason for feed in feeds.values() for day, reason in feed.missing.items()}
    if partition in missing:
        raise PartitionRejected(
            "NS-FEATURE-018",
            f"{use_case.name} {partition} was rejected by ingest, so it has no features: {missing[partition]} "
            f"Deliver it again and run {use_case.name}.ingest for it.",
        )
    tables = compute_features(use_case, {name: feed.table for name, feed in feeds.items()}, partition)
    if missing:
        log.warning("%s %s: built without %s", use_case.name, partition, ", ".join(map(str, sorted(missing))))
    curated = {ref.uri: ref for feed in feeds.values() for ref in feed.refs}
    log.info("%s %s: %d feature tables from %d partitions", use_case.name, partition, len(tables), len(curated))
    return context.commit(
        STEP,
        kind="features",
        files={f"{name}.parquet": table for name, table in without_monitored(use_case, tables).items()}
        | {SUMMARY: summary_of_features(use_case, feeds, tables, partition)},
        inputs={"curated": [curated[uri] for uri in sorted(curated)]},
        parameters={
            "lookback_days": features.lookback_days,
            "missing": sorted(day.isoformat() for day in missing),
        },
        metrics={"rows": {name: table.num_rows for name, table in tables.items()}},
        rows=sum(table.num_rows for table in tables.values()),
    )


def _missing_before(use_case: UseCase, store: ArtifactStore, partition: date) -> list[date]:
    """Partitions that were missing for the features of the previous partition: they are not waited for again."""
    before = store.decision(use_case.name, STEP, partition - timedelta(days=1))
    if before is None or before.ref is None:
        return []
    return [parse_partition(day) for day in store.manifest(before.ref).parameters["missing"]]
