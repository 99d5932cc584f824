"""Summaries of past partitions: of what was delivered, of the features built from it, and of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import duckdb
import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.core.features.feature_computation import DELIVERED_ON, OpenFeatures
from nightshift.core.monitoring.day_summary import SUMMARY_SCHEMA, summarise
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel

SUMMARY = "summary.parquet"
SCORES_SOURCE = "scores"


def summary_of_deliveries(session: duckdb.DuckDBPyConnection, use_case: UseCase, partition: date) -> pa.Table:
    """The rows that the partition itself delivered: SUMMARY_SCHEMA.

    To be called before `run_features`: SQL of a use case may change the tables of the feeds.
    """
    cutoff, parts = use_case.cutoff(partition), [SUMMARY_SCHEMA.empty_table()]
    for feed in use_case.feeds:
        for column in feed.curated:
            # One column in memory at a time.
            query = f'SELECT "{column.name}" FROM "{feed.name}" WHERE "{DELIVERED_ON}" = ?'  # noqa: S608 - declared
            values = session.execute(query, [partition]).to_arrow_table()
            parts.append(summarise(feed.name, values, partition=partition, cutoff=cutoff))
    return pa.concat_tables(parts)


def summary_of_features(features: OpenFeatures) -> pa.Table:
    """The columns of a partition's feature tables but identifiers: SUMMARY_SCHEMA."""
    use_case, partition = features.use_case, features.partition
    parts = [SUMMARY_SCHEMA.empty_table()]
    for table in use_case.features.tables:
        for name in (*table.numeric, *table.categorical, *table.monitored):
            values = features.column(table, name)
            parts.append(summarise(table.name, values, partition=partition, cutoff=use_case.cutoff(partition)))
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
