"""Labels that a partition delivers for rows that had one before: how many it changes, and whether it may."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.core.duckdb_session import LocalRows
from nightshift.core.features.feature_computation import DELIVERED_ON, compute_spine, open_spine
from nightshift.declare.use_case import UseCase
from nightshift.documents.ingest import LabelCorrections
from nightshift.errors import DataContractError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.services.curated import last_published, load_artifacts
from nightshift.services.live_scores import known_labels

_BEFORE = "label_before"


def check_corrections(
    store: ArtifactStore, use_case: UseCase, partition: date, files: Mapping[str, Path]
) -> LabelCorrections:
    """Compare the labels in `files`, by feed the curated rows to be published, with those that were delivered before.

    These are the labels of earlier partitions and, if this one was published before, its own, of which a row that is
    not delivered again is withdrawn. Raises DataContractError if one that is new or changed is for a day too long ago,
    or if too many are changed: see CorrectionPolicy.
    """
    policy, day, label = use_case.corrections, use_case.prediction_date, use_case.label
    feeds = {name: LocalRows(files[name], DELIVERED_ON, partition) for name in use_case.label_feeds}
    oldest = partition - timedelta(days=policy.largest_age_days)
    with open_spine(use_case, use_case.training_spine, feeds, partition) as spine:
        days = [one for (one,) in spine.session.execute(f'SELECT DISTINCT "{day}" FROM spine').fetchall()]  # noqa: S608
        known, _ = known_labels(store, use_case, days, partition - timedelta(days=1))
        key = ", ".join(f'"{name}"' for name in use_case.key_columns)
        columns = f'{key}, "{label}"'
        before = last_published(store, use_case, partition)
        own = _labels_of(store, use_case, partition, before) if before else known.slice(0, 0)
        spine.session.register("own_labels", own)
        spine.session.register("known_labels", known)
        spine.session.execute(
            f'CREATE TABLE "{_BEFORE}" AS SELECT {columns} FROM own_labels '  # noqa: S608
            f"UNION ALL SELECT {columns} FROM known_labels ANTI JOIN own_labels USING ({key})"
        )
        # A label that is delivered again unchanged, as in deliveries of the whole past, is harmless at any age.
        result = spine.session.execute(
            f"""
            SELECT count(*) FILTER (had), count(*) FILTER (differs), count(*) FILTER (had AND NOT has),
                count(*) FILTER (day < $oldest AND (had <> has OR differs)),
                min(day) FILTER (day < $oldest AND (had <> has OR differs))
            FROM (
                SELECT spine."{day}" AS day,
                    earlier."{label}" IS NOT NULL AS had,
                    spine."{label}" IS NOT NULL AS has,
                    coalesce(spine."{label}" <> earlier."{label}", false) AS differs
                FROM spine LEFT JOIN "{_BEFORE}" earlier USING ({key})
            )
            """,  # noqa: S608
            {"oldest": oldest},
        )
        ((repeated, flipped, withdrawn, old, first_old),) = result.fetchall()
        left_out = f'SELECT count(*) FROM own_labels ANTI JOIN spine USING ({key}) WHERE "{label}" IS NOT NULL'  # noqa: S608
        withdrawn += spine.session.execute(left_out).fetchall()[0][0]
        found = LabelCorrections(labels=spine.rows, repeated=repeated, flipped=flipped, withdrawn=withdrawn)
    if old:
        raise DataContractError(
            "NS-NIGHT-003",
            f"{use_case.name} {partition}: {old} labels are new or other ones for days before {oldest}, the "
            f"oldest for {first_old}; they may come {policy.largest_age_days} days late. Leave them out of the "
            f"delivery, quarantine them by an expectation (oldest_label), or raise corrections.largest_age_days.",
        )
    changed = flipped + withdrawn
    if changed > max(policy.ordinary_changes, policy.largest_changed_share * found.labels):
        raise DataContractError(
            "NS-NIGHT-004",
            f"{use_case.name} {partition}: of {found.labels} labels, {flipped} are other ones than were delivered "
            f"before and {withdrawn} are withdrawn; at most {policy.largest_changed_share:.1%} may be. Compare the "
            f"delivery with the producer's records; if it is right, raise corrections.largest_changed_share.",
        )
    return found


def _labels_of(store: ArtifactStore, use_case: UseCase, partition: date, curated: ArtifactRef) -> pa.Table:
    """Key and label of what a curated artifact of the partition delivered."""
    feeds = load_artifacts(store, use_case, use_case.label_feeds, [curated])
    rows = compute_spine(use_case, use_case.training_spine, {name: one.table for name, one in feeds.items()}, partition)
    return rows.select([*use_case.key_columns, use_case.label])
