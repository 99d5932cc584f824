"""Record the outcomes that a partition delivered, and the performance of the predictions whose labels are known.

Artifact: `performance.parquet`, the rows of performance_daily of every day that the partition delivered labels for (the
day that matured, and earlier ones with late or corrected labels), recomputed from all labels delivered up to it. The
day that it predicted itself is recorded besides, if its labels are there: in a backfill later partitions may have
delivered them before it was published.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.declare.use_case import UseCase
from nightshift.documents.ingest import LOOKED_BACK_DAYS
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.publications import MODEL_VERSION, Publication
from nightshift.io.warehouse.warehouse import PERFORMANCE_SCHEMA
from nightshift.partitions import partition_range
from nightshift.services.curated import STEP as CURATED
from nightshift.services.drift_inputs import PUBLISHED
from nightshift.services.live_scores import ALL_SCORES, known_labels, losses
from nightshift.services.outcomes import delivered_outcomes
from nightshift.steps.context import StepContext


def run(context: StepContext, *, published: ArtifactRef | None = None) -> ArtifactRef:  # noqa: ARG001
    """Add the partition's outcomes, replace the rows of performance_daily of their days, commit them.

    It also runs after ingest, with the `published` deliveries: a partition that publishes no predictions has outcomes.
    What a partition of the week before delivered is removed if it was rejected since. Raises PartitionNotReady if the
    partition has not been ingested, WarehouseUnavailable.
    """
    use_case, store, partition, warehouse = context.use_case, context.store, context.partition, context.warehouse
    outcomes = delivered_outcomes(use_case, store, partition)
    delivered_days = outcomes.table[use_case.prediction_date].unique().to_pylist()
    # Days with outcomes of an earlier delivery of this partition may have lost some.
    days = sorted({*delivered_days, *warehouse.outcome_days([partition, *_rejected(use_case, store, partition)])})
    labels, deliveries = known_labels(store, use_case, days, partition)
    warehouse.record_outcomes(partition, days, labels)
    rows, scores = [PERFORMANCE_SCHEMA.empty_table()], []
    for day in days:
        of_day = labels.filter(pc.equal(labels[use_case.prediction_date], pa.scalar(day, pa.date32())))
        if (publication := warehouse.publication_of(day)) is not None:
            rows.append(_performance(use_case, store, publication, of_day))
            scores.append(publication.scores)
            warehouse.record_performance(day, rows[-1].drop_columns(["prediction_date"]), as_of=partition)
    _record_own_day(context, partition + timedelta(days=1))
    table = pa.concat_tables(rows)
    return context.commit(
        "record_performance",
        kind="performance",
        files={"performance.parquet": table},
        inputs={"scores": scores, "curated": list({ref.sha256: ref for ref in [*outcomes.refs, *deliveries]}.values())},
        metrics={"outcomes": outcomes.table.num_rows, "withdrawn": outcomes.table[use_case.label].null_count},
        rows=table.num_rows,
    )


def _rejected(use_case: UseCase, store: ArtifactStore, partition: date) -> list[date]:
    """The partitions of the week before whose delivery is not published (any more)."""
    week = partition_range(
        max(partition - timedelta(days=LOOKED_BACK_DAYS), use_case.first_partition), partition - timedelta(1)
    )
    statuses = store.decisions(use_case.name, CURATED, week)
    return [day for day, status in statuses.items() if status is None or status.published is None]


def _record_own_day(context: StepContext, day: date) -> None:
    """Record the performance of the day that the partition predicted, from the labels recorded by now, if any."""
    warehouse = context.warehouse
    labels = warehouse.outcomes([day])
    publication = warehouse.publication_of(day) if labels.num_rows else None
    if publication is not None:
        rows = _performance(context.use_case, context.store, publication, labels)
        known_on = pc.max(labels[KNOWN_ON]).as_py()
        warehouse.record_performance(day, rows.drop_columns(["prediction_date"]), as_of=known_on)


def _performance(use_case: UseCase, store: ArtifactStore, publication: Publication, labels: pa.Table) -> pa.Table:
    """Rows of performance_daily of one publication; `labels`: the key, the label and `known_on`.

    One row of role `published` for each version that scored published rows, and one for each version, in its role, on
    all rows; of the published ones and the fallback also one for each value of each declared slice.
    """
    known = {"prediction_date": publication.prediction_date, "known_on": pc.max(labels[KNOWN_ON]).as_py()}
    measured = [
        {**known, "slice_column": column, "slice_value": value, **dict(one)}
        for column, value, rows in _slices(use_case, store, publication.scores)
        for one in losses(use_case, publication.partition, rows, labels)
    ]
    return pa.Table.from_pylist(measured, schema=PERFORMANCE_SCHEMA)


def _slices(use_case: UseCase, store: ArtifactStore, scores: ArtifactRef) -> Iterator[tuple[str, str, pa.Table]]:
    """(slice column, value, rows): all rows of all versions, and the published ones and the fallback's by slice.

    Rows: key, role, spec_id, model_version, score.
    """
    everything = store.read_table(scores, ALL_SCORES).drop_columns(["raw_score"])
    table = store.read_table(scores, "scores.parquet")
    spec_of = dict(zip(everything[MODEL_VERSION].to_pylist(), everything["spec_id"].to_pylist(), strict=True))
    versions = table[MODEL_VERSION].to_pylist()
    published = table.select([*use_case.key_columns, use_case.score, MODEL_VERSION])
    published = published.rename_columns([*use_case.key_columns, "score", MODEL_VERSION])
    published = published.append_column("role", pa.array([PUBLISHED] * len(versions), pa.string()))
    published = published.append_column("spec_id", pa.array([spec_of[one] for one in versions], pa.string()))
    published = published.select(everything.column_names)
    yield "", "", pa.concat_tables([published, everything])
    fallback = everything.filter(pc.equal(everything["role"], "fallback"))
    # All versions score the rows in the order of the published ones; features are in that order, too.
    compared = [published, fallback] if fallback.num_rows == published.num_rows else [published]
    features = store.read_table(scores, "features.parquet")
    for column in use_case.slices.columns:
        having = next((one for one in (features, table) if column in one.column_names), None)
        if having is None:  # not a feature of this version
            continue
        values = having[column].cast(pa.string())
        for value in sorted(values.unique().drop_null().to_pylist()):
            rows = pc.equal(values, value)
            yield column, value, pa.concat_tables([one.filter(rows) for one in compared])
