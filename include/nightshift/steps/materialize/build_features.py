"""Compute every feature view of a partition in one pass over the curated deliveries up to it.

Artifact: `<view>.parquet`, see core.feature_computation, and `summary.parquet`, the values of the delivered rows and
of the features (core.monitoring.day_summary). Inputs are the curated partitions read; partitions of the window without
data (rejected, or undecided) are in `parameters.missing`.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.core.duckdb_session import duckdb_session
from nightshift.core.features.feature_computation import OpenFeatures, run_features
from nightshift.core.parquet_file import write_parquet
from nightshift.declare.features import FeatureTable
from nightshift.declare.use_case import UseCase
from nightshift.errors import PartitionRejected
from nightshift.io.artifact_store import ArtifactStore
from nightshift.partitions import parse_partition, partition_range
from nightshift.services.curated import open_feeds
from nightshift.services.day_summaries import SUMMARY, summary_of_deliveries, summary_of_features
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
    with open_feeds(store, use_case, first, partition, may_be_undecided=undecided) as feeds, ExitStack() as stack:
        if partition in feeds.missing:
            raise PartitionRejected(
                "NS-FEATURE-018",
                f"{use_case.name} {partition} was rejected by ingest, so it has no features: "
                f"{feeds.missing[partition]} Deliver it again and run {use_case.name}.ingest for it.",
            )
        if feeds.missing:
            missing = ", ".join(map(str, sorted(feeds.missing)))
            log.warning("%s %s: built without %s", use_case.name, partition, missing)
        session = stack.enter_context(duckdb_session(**feeds.rows))
        summary = summary_of_deliveries(session, use_case, partition)
        computed = run_features(session, use_case, partition)
        folder = Path(stack.enter_context(TemporaryDirectory()))
        rows = {table.name: _write(folder / table.name, computed, table) for table in features.tables}
        log.info("%s %s: %d feature tables from %d partitions", use_case.name, partition, len(rows), len(feeds.refs))
        return context.commit(
            STEP,
            kind="features",
            files={f"{name}.parquet": folder / name for name in rows}
            | {SUMMARY: pa.concat_tables([summary, summary_of_features(computed)])},
            inputs={"curated": sorted(feeds.refs, key=lambda ref: ref.uri)},
            parameters={
                "lookback_days": features.lookback_days,
                "missing": sorted(day.isoformat() for day in feeds.missing),
            },
            metrics={"rows": rows},
            rows=sum(rows.values()),
        )


def _write(path: Path, computed: OpenFeatures, table: FeatureTable) -> int:
    """Write a feature table as its view has it: without the monitored columns; returns its rows."""
    reader = computed.batches(table)
    names = [name for name in reader.schema.names if name not in table.monitored]
    schema = pa.schema([reader.schema.field(name) for name in names])
    return write_parquet(path, schema, (pa.Table.from_batches([batch]).select(names) for batch in reader))


def _missing_before(use_case: UseCase, store: ArtifactStore, partition: date) -> list[date]:
    """Partitions that were missing for the features of the previous partition: they are not waited for again."""
    before = store.decision(use_case.name, STEP, partition - timedelta(days=1))
    if before is None or before.ref is None:
        return []
    return [parse_partition(day) for day in store.manifest(before.ref).parameters["missing"]]
