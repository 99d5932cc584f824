"""What a partition's drift is computed from: steps with summaries, performance by slice, features used twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.monitoring.outcome_drift import EVERYTHING, SliceDay
from nightshift.core.monitoring.skew import UsedFeatures
from nightshift.declare.use_case import UseCase
from nightshift.documents.check_drift import DriftKind
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.training_rows import NOT_RUN, ROWS
from nightshift.services.training_rows import STEP as TRAINING_ROWS

SUMMARIES: Mapping[DriftKind, str] = {"data": "build_features", "prediction": "score"}
"""The step whose summaries are compared."""
PUBLISHED = "published"
SERVED = "features.parquet"
"""File of the step `score`: the key, and the features that the primary was given."""
MEANS = ("label_rate", "mean_score", "log_loss", "expected_log_loss")


def slice_days(warehouse: Warehouse, use_case: UseCase, first: date, last: date) -> dict[str, list[SliceDay]]:
    """Days with known labels by slice (`name=value`, or EVERYTHING), ascending, over all versions that scored them.

    Slices of a day with fewer rows than the drift policy's `least_slice_rows` are left out.
    """
    rows = warehouse.performance(first, last, PUBLISHED).to_pandas()
    rows = rows[rows["expected_log_loss"].notna()]
    result: dict[str, list[SliceDay]] = defaultdict(list)
    for (column, value, partition), of_day in rows.groupby(["slice_column", "slice_value", "partition"]):
        weights = of_day["rows"].to_numpy(np.float64)
        if column and weights.sum() < use_case.drift.least_slice_rows:
            continue
        mean = {name: float(np.average(of_day[name], weights=weights)) for name in MEANS}
        result[f"{column}={value}" if column else EVERYTHING].append(
            SliceDay(
                partition=partition,
                rows=int(weights.sum()),
                label_rate=mean["label_rate"],
                residual=mean["label_rate"] - mean["mean_score"],
                excess_loss=mean["log_loss"] - mean["expected_log_loss"],
                auc=float(np.average(of_day["auc"], weights=weights)) if of_day["auc"].notna().all() else None,
            )
        )
    return dict(result)


def used_features(
    store: ArtifactStore, use_case: UseCase, delivered: date
) -> tuple[list[UsedFeatures], list[ArtifactRef], str]:
    """The features of the labels that partition `delivered` delivered: as scored and as in its training rows.

    By predicting partition, with the artifacts read; and, if there are none, the reason. Training rows that are not
    published are not waited for.
    """
    decision = store.decision(use_case.name, TRAINING_ROWS, delivered)
    if decision is None or (ref := decision.published) is None:
        return [], [], f"no training rows of {delivered}: {decision.reason if decision else NOT_RUN}"
    rows = store.read_table(ref, ROWS)
    trained_on = {one.sha256 for one in store.manifest(ref).inputs["features"]}
    days: list[date] = sorted(rows[PARTITION].unique().to_pylist())
    publications = store.decisions(use_case.name, "publish_predictions", days)

    def used(day: date) -> tuple[UsedFeatures, list[ArtifactRef]]:
        trained = rows.filter(pc.equal(rows[PARTITION], pa.scalar(day, pa.date32()))).combine_chunks()
        status = publications[day]
        if status is None or (publication := status.published) is None:
            return UsedFeatures(day, trained), []
        (scores,) = store.manifest(publication).inputs["scores"]
        (features,) = store.manifest(scores).inputs["features"]
        served = store.read_table(scores, SERVED)
        return UsedFeatures(day, trained, served, features.sha256 not in trained_on), [scores]

    found = in_parallel(used, days)
    parts = [part for part, _ in found]
    return parts, [ref, *(one for _, refs in found for one in refs)], f"partition {delivered} delivered no labels"


def source_of_features(use_case: UseCase) -> dict[str, str]:
    """The feature view of each feature, or the training spine."""
    features = use_case.features
    spine = dict.fromkeys(features.join_keys, use_case.training_spine.stem)
    return spine | {name: table.name for table in features.tables for name in (*table.numeric, *table.categorical)}
