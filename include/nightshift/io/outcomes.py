"""Outcomes: labels as they were delivered, by prediction key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.feature_computation import compute_spine
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.curated import load_feeds
from nightshift.usecase import UseCase


@dataclass(frozen=True)
class Outcomes:
    """`table`: the prediction key columns and the label (int64 0 or 1), sorted by key. `refs`: what was read.

    `spine`: the same rows with join keys, `partition` and `event_timestamp`. `rejected`: why the partition has none.
    """

    table: pa.Table
    refs: tuple[ArtifactRef, ...]
    spine: pa.Table
    rejected: str = ""

    def matured_day(self, use_case: UseCase) -> date | None:
        """The newest day among the outcomes; earlier ones are corrections. None if there are none."""
        newest: date | None = pc.max(self.table[use_case.prediction_date]).as_py()
        return newest

    def matured(self, use_case: UseCase) -> pa.Table:
        """The outcomes of that newest day."""
        day = pa.scalar(self.matured_day(use_case), pa.date32())
        return self.table.filter(pc.equal(self.table[use_case.prediction_date], day))


def delivered_outcomes(use_case: UseCase, store: ArtifactStore, partition: date) -> Outcomes:
    """What the use case's training spine says of the deliveries of this one partition.

    Raises PartitionNotReady if the partition has not been ingested.
    """
    feeds = load_feeds(store, use_case, use_case.label_feeds, partition, partition)
    key = tuple(column.name for column in use_case.prediction_key)
    table = compute_spine(
        use_case.training_spine,
        {name: feed.table for name, feed in feeds.items()},
        partition=partition,
        cutoff=use_case.cutoff,
        key=key,
    )
    refs = {ref.sha256: ref for feed in feeds.values() for ref in feed.refs}
    rejected = next((reason for feed in feeds.values() for reason in feed.missing.values()), "")
    return Outcomes(table.select([*key, use_case.label]), tuple(refs.values()), table, rejected)
