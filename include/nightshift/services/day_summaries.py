"""Summaries of past partitions: of what was delivered, of the features built from it, and of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.monitoring.day_summary import SUMMARY_SCHEMA, summarise
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.services.curated import DELIVERED_ON, CuratedFeed

SUMMARY = "summary.parquet"
SCORES_SOURCE = "scores"


def summary_of_features(
    use_case: UseCase, feeds: Mapping[str, CuratedFeed], tables: Mapping[str, pa.Table], partition: date
) -> pa.Table:
    """The rows that a partition delivered, and the columns of `compute_features` but identifiers: SUMMARY_SCHEMA."""
    cutoff = use_case.cutoff(partition)
    parts = [SUMMARY_SCHEMA.empty_table()]
    for name, feed in feeds.items():
        delivered = feed.table.filter(pc.equal(feed.table[DELIVERED_ON], pa.scalar(partition, pa.date32())))
        names = [column.name for column in use_case.feed(name).curated]
        parts.append(summarise(name, delivered.select(names), partition=partition, cutoff=cutoff))
    for table in use_case.features.tables:
        names = [*table.numeric, *table.categorical, *table.monitored]
        parts.append(summarise(table.name, tables[table.name].select(names), partition=partition, cutoff=cutoff))
    return pa.concat_tables(parts)


def read_summaries(
    store: ArtifactStore, use_case: UseCase, step: str, partitions: Sequence[date]
) -> tuple[dict[date, pa.Table], list[ArtifactRef]]:
    """The summaries that a step committed, by partition, and the artifacts read.

    Partitions without one are left out: rejected, undecided, or of an earlier version of Nightshift.
    """
    decisions = store.decisions(use_case.name, step, partitions)
    published = {day: one.published for day, one in decisions.items() if one is not None and one.published}

    def read(ref: ArtifactRef) -> pa.Table | None:
        if all(entry.path != SUMMARY for entry in store.manifest(ref).files):
            return None
        return store.read_table(ref, SUMMARY)

    tables = dict(zip(published, in_parallel(read, published.values()), strict=True))
    summaries = {day: table for day, table in tables.items() if table is not None}
    return summaries, [published[day] for day in summaries]
