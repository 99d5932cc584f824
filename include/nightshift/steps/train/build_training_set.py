"""Snapshot the training set: all labels known at the cutoff, each with the features of the night it was predicted.

Artifact: `training_set.parquet`, sorted by partition and prediction key: prediction key, join
keys, event_timestamp, partition, numeric features (float64), categorical features (string),
label (int64), split ('train' or 'holdout'). Partitions that were refused are in
`parameters.missing`.
"""

from __future__ import annotations

import logging
from datetime import date, timedelta

import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.core.feature_computation import EVENT_TIMESTAMP, PARTITION, compute_spine
from nightshift.core.training_rows import SPLIT, of_partitions, with_split
from nightshift.errors import FeatureContractError, PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.curated import CuratedFeed, load_feeds
from nightshift.io.feature_store import STEP as PUBLISHED
from nightshift.io.feature_store import historical_features
from nightshift.settings import Settings
from nightshift.usecase import UseCase, partition_range

log = logging.getLogger(__name__)


def run(use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date) -> ArtifactRef:
    """Commit the training set as of the partition's cutoff.

    Raises PartitionNotReady if features or curated data of an earlier partition are undecided,
    TerminalError if there are too few days, FeatureContractError if features are not as declared.
    """
    policy, features = use_case.training, use_case.features
    first = use_case.first_partition
    if policy.window_days is not None:
        first = max(first, partition - timedelta(days=policy.window_days))
    feeds = load_feeds(store, use_case, [feed.name for feed in use_case.feeds], first, partition)
    published = _published(use_case, store, partition_range(first, partition - timedelta(days=1)), feeds)
    spine = compute_spine(
        use_case.training_spine,
        {name: feed.table for name, feed in feeds.items()},
        partition=partition,
        cutoff=use_case.cutoff,
        key=tuple(column.name for column in use_case.prediction_key),
    )
    rows = with_split(
        of_partitions(spine, published), holdout_days=policy.holdout_days, minimum_days=policy.minimum_days
    )
    joined = historical_features(use_case, settings, store, features.service, rows, partitions=published)
    table = _training_columns(use_case, joined)
    curated = {ref.uri: ref for feed in feeds.values() for ref in feed.refs}
    missing = sorted({day for feed in feeds.values() for day in feed.missing})
    log.info("%s %s: %d training rows of %d days", use_case.name, partition, table.num_rows, len(published))
    return store.commit(
        use_case=use_case.name,
        step="build_training_set",
        partition=partition,
        kind="training_set",
        files={"training_set.parquet": table},
        inputs={
            "features": [published[day] for day in sorted(published)],
            "curated": [curated[uri] for uri in sorted(curated)],
        },
        parameters={
            "feature_service": features.service,
            "numeric": list(features.numeric),
            "categorical": list(features.categorical),
            "label": use_case.label,
            "holdout_days": policy.holdout_days,
            "window_days": policy.window_days,
            "missing": [day.isoformat() for day in missing],
        },
        metrics=_metrics(table, use_case.label),
        rows=table.num_rows,
    )


def _published(
    use_case: UseCase, store: ArtifactStore, partitions: list[date], feeds: dict[str, CuratedFeed]
) -> dict[date, ArtifactRef]:
    """The published features of the partitions; those whose data was refused have none."""
    refused = {day for feed in feeds.values() for day in feed.missing}
    wanted = [day for day in partitions if day not in refused]
    decisions = store.decisions(use_case.name, PUBLISHED, wanted)
    undecided = [day.isoformat() for day, decision in decisions.items() if decision is None]
    if undecided:
        more = f" and {len(undecided) - 5} more" if len(undecided) > 5 else ""
        raise PartitionNotReady(
            f"{use_case.name} has no published features yet for {', '.join(undecided[:5])}{more}. "
            f"Run or backfill {use_case.name}.materialize for them; the task is retried until they are there."
        )
    return {
        day: decision.ref
        for day, decision in decisions.items()
        if decision is not None and decision.status == "published" and decision.ref is not None
    }


def _training_columns(use_case: UseCase, joined: pa.Table) -> pa.Table:
    features = use_case.features
    types = {
        **dict.fromkeys(features.numeric, pa.float64()),
        **dict.fromkeys(features.categorical, pa.string()),
        use_case.label: pa.int64(),
    }
    join_keys = [key for table in features.tables for key in table.join_keys]
    key = [column.name for column in use_case.prediction_key]
    names = dict.fromkeys([*key, *join_keys, EVENT_TIMESTAMP, PARTITION, *types, SPLIT])
    absent = [name for name in names if name not in joined.column_names]
    if absent:
        raise FeatureContractError(
            f"{use_case.name}: {', '.join(absent[:5])} come neither from {use_case.training_spine.name} nor from the "
            f"feature service {features.service}. Add them there, or take them off the declared features."
        )
    columns = {name: joined[name].cast(types[name]) if name in types else joined[name] for name in names}
    return pa.table(columns).combine_chunks()


def _metrics(table: pa.Table, label: str) -> dict[str, object]:
    counted = table.group_by(SPLIT).aggregate(
        [(label, "count"), (label, "mean"), (PARTITION, "min"), (PARTITION, "max")]
    )
    return {
        row[SPLIT]: {
            "rows": row[f"{label}_count"],
            "label_rate": round(row[f"{label}_mean"], 6),
            "first": row[f"{PARTITION}_min"].isoformat(),
            "last": row[f"{PARTITION}_max"].isoformat(),
        }
        for row in counted.to_pylist()
    }
