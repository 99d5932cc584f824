"""Labels that a partition delivers for rows that had one before: how many it changes, and whether it may."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.features.feature_computation import compute_spine
from nightshift.declare.use_case import UseCase
from nightshift.documents.ingest import LabelCorrections
from nightshift.errors import DataContractError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.services.curated import DELIVERED_ON
from nightshift.services.live_scores import known_labels

_BEFORE = "label_before"


def check_corrections(
    store: ArtifactStore, use_case: UseCase, partition: date, rows: Mapping[str, pa.Table]
) -> LabelCorrections:
    """Compare the labels in `rows`, by feed the curated rows to be published, with those of earlier partitions.

    Raises DataContractError if one that is new or changed is for a day too long ago, or if too many are changed: see
    CorrectionPolicy.
    """
    policy, day = use_case.corrections, use_case.prediction_date
    feeds = use_case.label_feeds
    delivered_on = {name: pa.array([partition] * rows[name].num_rows, pa.date32()) for name in feeds}
    tables = {name: rows[name].append_column(DELIVERED_ON, delivered_on[name]) for name in feeds}
    labels = compute_spine(use_case, use_case.training_spine, tables, partition)
    days = labels[day].unique().to_pylist()
    known, _ = known_labels(store, use_case, days, partition - timedelta(days=1))
    before = known.select([*use_case.key_columns, use_case.label]).rename_columns([*use_case.key_columns, _BEFORE])
    both = labels.select([*use_case.key_columns, use_case.label]).join(before, keys=use_case.key_columns)
    had, has = pc.is_valid(both[_BEFORE]), pc.is_valid(both[use_case.label])
    differs = pc.fill_null(pc.not_equal(both[use_case.label], both[_BEFORE]), False)
    oldest = partition - timedelta(days=policy.largest_age_days)
    # A label that is delivered again unchanged, as in deliveries of the whole past, is harmless at any age.
    old = both.filter(pc.and_(pc.less(both[day], pa.scalar(oldest)), pc.or_(pc.xor(had, has), differs)))
    if old.num_rows:
        raise DataContractError(
            "NS-NIGHT-003",
            f"{use_case.name} {partition}: {old.num_rows} labels are new or other ones for days before {oldest}, the "
            f"oldest for {pc.min(old[day])}; they may come {policy.largest_age_days} days late. Leave them out of the "
            f"delivery, quarantine them by an expectation (oldest_label), or raise corrections.largest_age_days.",
        )
    flipped, withdrawn = (pc.sum(one).as_py() or 0 for one in (differs, pc.and_not(had, has)))
    repeated = pc.sum(had).as_py() or 0
    found = LabelCorrections(labels=labels.num_rows, repeated=repeated, flipped=flipped, withdrawn=withdrawn)
    changed = flipped + withdrawn
    if changed > max(policy.ordinary_changes, policy.largest_changed_share * labels.num_rows):
        raise DataContractError(
            "NS-NIGHT-004",
            f"{use_case.name} {partition}: of {labels.num_rows} labels, {flipped} are other ones than were delivered "
            f"before and {withdrawn} are withdrawn; at most {policy.largest_changed_share:.1%} may be. Compare the "
            f"delivery with the producer's records; if it is right, raise corrections.largest_changed_share.",
        )
    return found
