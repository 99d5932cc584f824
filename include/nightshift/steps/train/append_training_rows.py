"""Write the labels that one partition delivered, each with the features of its prediction.

Artifact: `rows.parquet`, sorted by partition and prediction key: prediction key, `partition` (date32: the one whose
features were known when the row was predicted), `known_on` (date32: this partition), numeric features (float64),
categorical features (string; null if unknown), label (int64). Never changed by a later partition: a late or
corrected label is a row of the partition that delivered it. Answers to reviews known from the partition on are labels
of rows of which none was delivered; `inputs.answers` has them. Rows whose features were not published are left out;
`parameters.missing` has their partitions with the reasons.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.features.feature_computation import PARTITION, check_days
from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.core.ingest.landed_table import ARROW_TYPES
from nightshift.declare.use_case import UseCase
from nightshift.errors import FeatureContractError, PartitionNotReady, PartitionRejected
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.feast.feature_store import STEP as PUBLISHED
from nightshift.io.feast.feature_store import historical_features
from nightshift.services.outcomes import delivered_outcomes
from nightshift.services.review_answers import with_answers
from nightshift.services.training_rows import publish_rows, withdraw_rows
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, allow_undecided: bool = False) -> ArtifactRef:
    """Commit the partition's training rows.

    Raises PartitionNotReady while features of one of the rows' partitions are undecided (with `allow_undecided`
    those rows are left out), PartitionRejected if the partition's data was, FeatureContractError if the feature
    service lacks a declared feature.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    outcomes = delivered_outcomes(use_case, store, partition)
    if outcomes.rejected:
        reason = withdraw_rows(store, use_case, partition, outcomes.rejected)
        raise PartitionRejected(
            "NS-TRAIN-005", f"{use_case.name}: {reason} Deliver it again and run ingest; training follows."
        )
    spine, answered = with_answers(use_case, store, partition, outcomes.spine)
    check_days(use_case, use_case.training_spine, spine)
    days: list[date] = sorted(spine[PARTITION].unique().to_pylist())
    features, missing = _features(use_case, store, days, allow_undecided=allow_undecided)
    table = _empty(use_case)
    if features:
        rows = spine.filter(pc.is_in(spine[PARTITION], pa.array(list(features), pa.date32())))
        joined = historical_features(use_case, settings, store, use_case.features.service, rows, partitions=features)
        table = _columns(use_case, joined, partition).combine_chunks()
    log.info("%s %s: %d training rows, without features: %s", use_case.name, partition, table.num_rows, missing or 0)
    return publish_rows(
        store,
        use_case,
        partition,
        table,
        inputs={"curated": outcomes.refs, "features": tuple(features.values()), **answered},
        parameters={
            "feature_service": use_case.features.service,
            "label": use_case.label,
            "missing": {day.isoformat(): why for day, why in missing.items()},
        },
    )


def _features(
    use_case: UseCase, store: ArtifactStore, days: list[date], *, allow_undecided: bool
) -> tuple[dict[date, ArtifactRef], dict[date, str]]:
    """The published features of these partitions, and why some have none."""
    missing = dict.fromkeys(days, f"before the first partition {use_case.first_partition}")
    missing = {day: why for day, why in missing.items() if day < use_case.first_partition}
    published: dict[date, ArtifactRef] = {}
    undecided = []
    for day, decision in store.decisions(use_case.name, PUBLISHED, [d for d in days if d not in missing]).items():
        if decision is not None and decision.status == "published" and decision.ref is not None:
            published[day] = decision.ref
            continue
        ingested = store.decision(use_case.name, "publish", day) if decision is None else decision
        if ingested is None or ingested.status == "published":
            undecided.append(day)
            missing[day] = "its features were not published in time"
        else:
            missing[day] = ingested.reason
    if undecided and not allow_undecided:
        raise PartitionNotReady(
            "NS-TRAIN-006",
            f"{use_case.name} has no published features yet for {', '.join(map(str, undecided[:5]))}, which "
            f"{len(undecided)} partitions of delivered labels need. Run or backfill {use_case.name}.materialize for "
            f"them; the task is retried; the last retry leaves those rows out.",
        )
    return published, missing


def _types(use_case: UseCase) -> Mapping[str, pa.DataType]:
    features = use_case.features
    return {
        **dict.fromkeys(features.numeric, pa.float64()),
        **dict.fromkeys(features.categorical, pa.string()),
        use_case.label: pa.int64(),
    }


def _columns(use_case: UseCase, joined: pa.Table, partition: date) -> pa.Table:
    types = _types(use_case)
    if absent := [name for name in types if name not in joined.column_names]:
        raise FeatureContractError(
            "NS-TRAIN-007",
            f"{use_case.name}: {', '.join(absent[:5])} come neither from {use_case.training_spine.name} nor from the "
            f"feature service {use_case.features.service}. Add them there, or remove them from the declared features.",
        )
    known_on = pa.array([partition] * joined.num_rows, pa.date32())
    schema = _empty(use_case).schema
    return pa.table({name: known_on if name == KNOWN_ON else joined[name] for name in schema.names}).cast(schema)


def _empty(use_case: UseCase) -> pa.Table:
    key = {column.name: ARROW_TYPES[column.type] for column in use_case.prediction_key}
    fields = key | {PARTITION: pa.date32(), KNOWN_ON: pa.date32()}
    # A key column may be a feature as well; it then has the type of the key.
    fields |= {name: kind for name, kind in _types(use_case).items() if name not in key}
    return pa.schema(list(fields.items())).empty_table()
