"""Compute every feature view of a partition in one pass over the curated deliveries up to it.

Artifact: `<view>.parquet`, see core.feature_computation. Inputs are the curated partitions read;
refused ones in the window are in `parameters.missing`.
"""

from __future__ import annotations

import logging
from datetime import date, timedelta

from nightshift.artifact import ArtifactRef
from nightshift.core.feature_computation import compute_features
from nightshift.errors import PartitionRejected
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.curated import load_feeds
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)


def run(
    use_case: UseCase,
    settings: Settings,  # noqa: ARG001 - every step takes the same arguments
    store: ArtifactStore,
    partition: date,
) -> ArtifactRef:
    """Commit the feature tables of the partition.

    Raises PartitionNotReady if a partition of the lookback window is undecided, PartitionRejected
    if this one was refused, FeatureContractError if a query does not run.
    """
    features = use_case.features
    first = partition - timedelta(days=features.lookback_days - 1)
    feeds = load_feeds(store, use_case, [feed.name for feed in use_case.feeds], first, partition)
    missing = {day: reason for feed in feeds.values() for day, reason in feed.missing.items()}
    if partition in missing:
        raise PartitionRejected(
            f"{use_case.name} {partition} was refused by ingest, so it has no features: {missing[partition]} "
            f"Deliver it anew and run {use_case.name}.ingest for it."
        )
    tables = compute_features(
        features,
        {name: feed.table for name, feed in feeds.items()},
        partition=partition,
        cutoff=use_case.cutoff(partition),
    )
    curated = {ref.uri: ref for feed in feeds.values() for ref in feed.refs}
    log.info("%s %s: %d feature tables from %d partitions", use_case.name, partition, len(tables), len(curated))
    return store.commit(
        use_case=use_case.name,
        step="build_features",
        partition=partition,
        kind="features",
        files={f"{name}.parquet": table for name, table in tables.items()},
        inputs={"curated": [curated[uri] for uri in sorted(curated)]},
        parameters={
            "lookback_days": features.lookback_days,
            "missing": sorted(day.isoformat() for day in missing),
        },
        metrics={"rows": {name: table.num_rows for name, table in tables.items()}},
        rows=sum(table.num_rows for table in tables.values()),
    )
