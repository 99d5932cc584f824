"""Compares a spec's live losses with those of a backtest on the same rows and labels, both before calibration.

A difference means that live scoring differs from the backtest: other features, another training, another graph.
Calibration is left out because it differs while a spec has few scores of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.evaluation import log_loss
from nightshift.declare.models import CalibrationSpec, ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.services.live_scores import ScoredPartition
from nightshift.settings import Settings


@dataclass(frozen=True)
class LiveAndBacktest:
    """Mean log losses, in nats, of one partition's raw scores."""

    live: float
    backtest: float


def compare_with_backtest(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    spec: ModelSpec,
    scored: Sequence[ScoredPartition],
    as_of: date,
) -> Mapping[date, LiveAndBacktest]:
    """Both losses of a spec by partition, on the training rows known by `as_of`.

    `scored`: partitions that the spec scored, one after another. The backtest refits
    for each of them. A partition without known training rows is left out.
    """
    # Imported here: they load the estimators, which are not needed without a challenger.
    from nightshift.core.backtest.walk import History, Plan, walk_forward
    from nightshift.core.versions.version import signature_of_spec
    from nightshift.services.training_rows import known_rows, load_rows

    parts = known_rows(store, use_case, as_of).parts
    if not scored or not parts:
        return {}
    history = History.of(load_rows(store, use_case, parts), use_case.key_columns, use_case.label)
    first, last = scored[0].partition, scored[-1].partition
    predictions = history.between(first, last)
    if predictions.start == predictions.stop:
        return {}
    plan = Plan(
        spec=spec.model_copy(update={"calibration": CalibrationSpec(half_life_days=0)}),
        signature=signature_of_spec(use_case, spec),
        first=first,
        last=last,
        refit_every=1,
        minimum_days=use_case.training.minimum_days,
        threads=settings.threads,
    )
    (walk,) = walk_forward(history, plan)
    key = use_case.key_columns
    walked = history.features(predictions).select(key).append_column("label", pa.array(walk.labels))
    walked = walked.append_column("backtest", pa.array(walk.raw))
    compared = {}
    for one in scored:
        own = one.rows.filter(pc.field("spec_id") == spec.spec_id).select([*key, "raw_score"])
        both = own.join(walked, keys=key, join_type="inner").sort_by([(name, "ascending") for name in key])
        if both.num_rows:
            labels = np.asarray(both["label"], dtype=np.int64)
            live, backtest = (np.asarray(both[name], dtype=np.float64) for name in ("raw_score", "backtest"))
            compared[one.partition] = LiveAndBacktest(log_loss(labels, live), log_loss(labels, backtest))
    return compared
