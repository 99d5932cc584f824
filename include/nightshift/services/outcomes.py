"""Outcomes: labels as they were delivered, by prediction key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.services.curated import delivered_spine


@dataclass(frozen=True)
class Outcomes:
    """`table`: the prediction key columns and the label (int64 0 or 1; null: withdrawn), sorted by key. `refs`: what
    was read.

    `spine`: the same rows with join keys, `partition` and `event_timestamp`. `rejected`: why the partition has none.
    """

    table: pa.Table
    refs: tuple[ArtifactRef, ...]
    spine: pa.Table
    rejected: str = ""


def delivered_outcomes(use_case: UseCase, store: ArtifactStore, partition: date) -> Outcomes:
    """The outcomes that one partition delivered, by the use case's training spine.

    Raises PartitionNotReady if the partition has not been ingested.
    """
    spine = delivered_spine(use_case, store, partition, use_case.training_spine, use_case.label_feeds)
    table = spine.rows.select([*use_case.key_columns, use_case.label])
    return Outcomes(table, spine.refs, spine.rows, spine.rejected)
