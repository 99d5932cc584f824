"""The race: candidate specs fitted at the same past origins and evaluated on the partitions that followed."""

from __future__ import annotations

import logging
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.arrays import Floats
from nightshift.core.evaluation import auc_or_none, log_loss
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.features.training_rows import newest_rows
from nightshift.core.inference.onnx_model import load_session, score
from nightshift.core.search.measurement import measure, measure_native
from nightshift.core.versions.version import SharedFits, export_version, signature_of_spec
from nightshift.declare.policies import SearchPolicy
from nightshift.declare.use_case import UseCase
from nightshift.documents.search import PartitionScore, Race, RacedSpec, RaceOrigin
from nightshift.errors import DataContractError, NotApplicable
from nightshift.partitions import partition_range

log = logging.getLogger(__name__)

MEASUREMENTS = 3
"""The fastest of this many measurements is used, because other work on the machine only slows them down."""


def race_origins(rows: pa.Table, policy: SearchPolicy, minimum_days: int) -> list[date]:
    """The origins of a race over training rows, oldest first; the rows' newest partition is the last one scored.

    An origin fits on partitions before it and scores the `origin_days` after it. Raises DataContractError if the
    oldest origin has fewer than `minimum_days` partitions to fit on.
    """
    span = pc.min_max(rows[PARTITION]).as_py()
    first, last = span["min"], span["max"]
    step = timedelta(days=policy.origin_days)
    origins = [last - back * step for back in range(policy.origins, 0, -1)]
    if (origins[0] - first).days < minimum_days:
        needed = policy.origins * policy.origin_days + minimum_days + 1
        raise DataContractError(
            "NS-SEARCH-003",
            f"There are rows of the partitions {first} to {last}; a race over {policy.origins} origins of "
            f"{policy.origin_days} partitions needs {needed}. Load more history with backfill_history, or declare "
            "fewer origins in the use case's search policy.",
        )
    return origins


def scored_partitions(origin: date, policy: SearchPolicy) -> tuple[date, ...]:
    """The partitions that versions of an origin are evaluated on."""
    return tuple(partition_range(origin + timedelta(days=1), origin + timedelta(days=policy.origin_days)))


def run_race(use_case: UseCase, plan: RaceOrigin, rows: pa.Table, as_of: date, *, threads: int) -> Race:
    """Fit every spec on the rows known at the origin, export it, and evaluate it on the partitions of the plan.

    `rows`: training rows with every `known_on`; scores are compared with the labels known by `as_of`. A spec whose
    techniques do not apply has the reason instead of scores. Raises DataContractError if the scored partitions have
    no rows or the rows known at the origin hold one class only.
    """
    train = newest_rows(rows, use_case.key_columns, plan.origin)
    later = newest_rows(rows, use_case.key_columns, as_of)
    later = later.filter(pc.is_in(later[PARTITION], value_set=pa.array(plan.scored, pa.date32())))
    if later.num_rows == 0:
        raise DataContractError(
            "NS-SEARCH-004",
            f"No labels are known by {as_of} for {plan.scored[0]} to {plan.scored[-1]}, which follow the origin "
            f"{plan.origin}. Load that history with backfill_history.",
        )
    fits = SharedFits(train, use_case.label, as_of=plan.origin, threads=threads)
    raced: list[RacedSpec] = []
    native: dict[str, float] = {}
    for spec in plan.specs:
        try:
            fitted = fits.fit(spec, signature_of_spec(use_case, spec))
        except NotApplicable as error:
            raced.append(RacedSpec(spec=spec, not_applicable=str(error)))
            continue
        version = export_version(fitted)
        probability = score(load_session(version.graph, 1), version.signature, later)
        costs: dict[str, float] = {}
        if plan.measured:
            counts = [measure(version.graph, version.signature, later) for _ in range(MEASUREMENTS)]
            costs = max(counts, key=lambda one: one["rows_per_second"])
            if not spec.compression:
                native = native or measure_native(fitted, later)
        scores = partition_scores(later, use_case.label, probability)
        log.info("%s at %s: log loss %.4f", spec.name, plan.origin, np.mean([s.log_loss for s in scores]))
        raced.append(
            RacedSpec(spec=spec, scores=scores, bytes=len(version.graph), rows_per_second=costs.get("rows_per_second"))
        )
    return Race(origin=plan.origin, baseline=plan.baseline, specs=tuple(raced), native=native)


def partition_scores(rows: pa.Table, label: str, probability: Floats) -> tuple[PartitionScore, ...]:
    """Log loss and AUC of probabilities [n] for each partition of the rows, oldest first."""
    days = pc.cast(rows[PARTITION], pa.date32()).to_numpy()
    labels = np.asarray(rows[label].to_numpy(), dtype=np.int64)
    scores = []
    for day in np.unique(days):
        chosen = days == day
        own, probabilities = labels[chosen], np.asarray(probability, dtype=np.float64)[chosen]
        scores.append(
            PartitionScore(
                partition=day.astype(object),
                rows=len(own),
                log_loss=log_loss(own, probabilities),
                auc=auc_or_none(own, probabilities),
            )
        )
    return tuple(scores)
