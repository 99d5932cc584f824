"""A gate on look-ahead: the features of a past partition must not depend on later deliveries."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.core.backtest.nomination import scrambled
from nightshift.core.features.feature_computation import DELIVERED_ON, compute_features, without_monitored
from nightshift.declare.use_case import UseCase
from nightshift.deployment import GateResult
from nightshift.io.artifact_store import ArtifactStore, parquet_bytes
from nightshift.io.feast.feature_store import STEP
from nightshift.partitions import partition_range
from nightshift.services.curated import load_artifacts, load_feeds

LATER_PARTITIONS = 7


def look_ahead_gate(use_case: UseCase, store: ArtifactStore, drawn: date, newest: date) -> GateResult:
    """Compute a partition's features again, with scrambled deliveries of later partitions added to the input.

    The deliveries of up to LATER_PARTITIONS partitions after `drawn`, at most `newest`, are added to those that
    `build_features` read, whatever has been published for these partitions since; their values are replaced by those of
    earlier rows, in every column. The gate passes if the result is byte for byte the published features. Raises
    PartitionNotReady if the partition has no features.
    """
    names = use_case.feed_names
    published = store.current(use_case.name, STEP, drawn)
    (built,) = store.manifest(published).inputs["features"]
    earlier = load_artifacts(store, use_case, names, store.manifest(built).inputs["curated"])
    first, last = drawn + timedelta(days=1), min(drawn + timedelta(days=LATER_PARTITIONS), newest)
    later = load_feeds(store, use_case, names, first, last, may_be_undecided=partition_range(first, last))
    tables = {
        name: pa.concat_tables(
            [feed.table, scrambled(later[name].table, feed.table, [DELIVERED_ON], use_case.training.seed)]
        )
        for name, feed in earlier.items()
    }
    added = sum(table.num_rows for table in tables.values()) - sum(feed.table.num_rows for feed in earlier.values())
    computed = without_monitored(use_case, compute_features(use_case, tables, drawn))
    changed = [
        name
        for name, table in computed.items()
        if parquet_bytes(_read(parquet_bytes(table))) != parquet_bytes(_read(store.read(published, f"{name}.parquet")))
    ]
    reason = f"features of partition {drawn}, computed again with {added} scrambled rows delivered up to {last}, "
    reason += f"differ from those published in {', '.join(changed)}" if changed else "are byte for byte those published"
    if not added:
        why = f"nothing was delivered after partition {drawn}"
        return GateResult.not_applicable("look_ahead", "nothing_later", why, observed=len(changed), bound=0)
    return GateResult.evaluated("look_ahead", "differs" if changed else "", reason, observed=len(changed), bound=0)


def _read(body: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(body)).replace_schema_metadata(None)
