"""Answers to reviews, as labels of training rows."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.core.features.feature_computation import PARTITION
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.services.curated import delivered_spine
from nightshift.services.live_scores import known_labels

STEP = "answer_review"
ANSWERS = "answers.parquet"


def with_answers(
    use_case: UseCase, store: ArtifactStore, partition: date, spine: pa.Table
) -> tuple[pa.Table, dict[str, list[ArtifactRef]]]:
    """A partition's training spine with the rows that were answered and of which no label is known by the partition.

    An answered row is that of the scoring spine, with the answer as its label; of other columns it has those of the
    training spine, null where it has none. Rows are sorted by partition, then key. Returns the rows and the artifacts
    read, by name; none if there are no answers known from this partition on.
    """
    decision = store.decision(use_case.name, STEP, partition)
    if decision is None or (ref := decision.published) is None:
        return spine, {}
    key = use_case.key_columns
    answers = store.read_table(ref, ANSWERS).select([*key, use_case.label])
    days = sorted(answers[use_case.prediction_date].unique().to_pylist())
    labels, deliveries = known_labels(store, use_case, days, partition)
    open_answers = answers.join(labels.select(key), keys=key, join_type="left anti")
    read = {"answers": [ref], "labels": deliveries, "scheduled": []}
    parts = [spine]
    for day in sorted(open_answers[use_case.prediction_date].unique().to_pylist()):
        scheduled = delivered_spine(use_case, store, day - timedelta(days=1), use_case.scoring_spine)
        read["scheduled"] += scheduled.refs
        answered = scheduled.rows.join(open_answers, keys=key, join_type="inner")
        parts.append(
            pa.table(
                {
                    field.name: answered[field.name].cast(field.type)
                    if field.name in answered.column_names
                    else pa.nulls(answered.num_rows, field.type)
                    for field in spine.schema
                }
            )
        )
    rows = pa.concat_tables(parts).sort_by([(PARTITION, "ascending"), *((name, "ascending") for name in key)])
    return rows, read
