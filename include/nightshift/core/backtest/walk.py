"""Walk-forward over past partitions: the scores that a spec would have published, had it been in service.

As in the nightly run, the rows of partition D (the predictions for the day after) are scored by a version fitted by
the training of an earlier partition T, T <= D - 1, on rows of partitions up to T - 1 with the labels known by T. The
calibration of D uses the spec's own raw scores of partitions up to D - 1 and the labels known by D. Only the losses
use labels of any age. A violation raises LookAhead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.arrays import Floats, Integers
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.features.training_rows import KNOWN_ON, with_label_order
from nightshift.core.inference.calibration import LabelledScores, calibrated, fit_calibration, window_days
from nightshift.core.inference.onnx_model import Signature, load_session, score
from nightshift.core.models.fitted import FittedModel
from nightshift.core.versions.version import export_version, fit_spec
from nightshift.declare.models import ModelSpec
from nightshift.errors import LookAhead, TerminalError
from nightshift.partitions import partition_range

WARM_UP_HALF_LIVES = 3
"""Partitions walked before the first reported one, in half-lives of the calibration, which needs their scores."""

FROZEN = ("frozen", "frozen_calibrated")
"""Baselines: the version of the first origin, never refitted nor calibrated; and the same, calibrated nightly."""

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class History:
    """Training rows of all partitions, with every delivered label of a row.

    `rows`: sorted by partition and key, the label known last first. For each row `partition` and `known_on` in days
    since 1970, and `position`: the number of its prediction, 0 to `predictions` - 1, in the same order. `newest`: for
    each prediction [predictions] the row with the label known last.
    """

    rows: pa.Table
    label: str
    partition: Integers
    known_on: Integers
    position: Integers
    newest: Integers

    @classmethod
    def of(cls, rows: pa.Table, key: Sequence[str], label: str) -> History:
        """From training rows: key, `label` (0 or 1), partition and known_on (date32), features. Raises LookAhead
        for a label known on or before its row's partition, TerminalError if there are no rows."""
        if not rows.num_rows:
            raise TerminalError(
                "NS-BACKTEST-001", "There are no training rows to walk over: run train for the partitions first."
            )
        ordered, repeats = with_label_order(rows, key)
        partition, known_on = (_days(ordered[name]) for name in (PARTITION, KNOWN_ON))
        if early := int((known_on <= partition).sum()):
            raise LookAhead(
                "NS-BACKTEST-002",
                f"{early} training rows state a label that was known on or before the partition that predicted it, "
                f"the first of partition {_date(partition[int(np.argmax(known_on <= partition))])}. "
                "Correct the use case's training spine: a label is known in a later partition than its features.",
            )
        position = np.cumsum(~repeats) - 1
        return cls(ordered, label, partition, known_on, position, np.flatnonzero(~repeats))

    @cached_property
    def predictions(self) -> int:
        """The number of distinct predictions."""
        return len(self.newest)

    @cached_property
    def labels(self) -> Integers:
        """The label known last of each prediction [predictions]."""
        return self._labels(self.newest)

    @cached_property
    def prediction_partition(self) -> Integers:
        """The partition of each prediction [predictions], in days since 1970, ascending."""
        return self.partition[self.newest]

    def known(self, as_of: date, first: date | None = None, last: date | None = None) -> Integers:
        """Rows of partitions first to last as they were known by `as_of`: indices into `rows`, one per prediction."""
        start = 0 if first is None else np.searchsorted(self.partition, _day(first))
        end = len(self.partition) if last is None else np.searchsorted(self.partition, _day(last), side="right")
        rows = np.arange(start, end)
        rows = rows[self.known_on[rows] <= _day(as_of)]
        _, firsts = np.unique(self.position[rows], return_index=True)
        return np.asarray(rows[firsts], dtype=np.int64)

    def fitted_on(self, as_of: date, least_partitions: int) -> pa.Table | None:
        """The rows that the training of partition `as_of` fits; None if of too few partitions. Raises LookAhead."""
        indices = self.known(as_of, last=as_of - timedelta(days=1))
        _no_look_ahead("A version", as_of, self.known_on[indices], self.partition[indices], as_of - timedelta(days=1))
        if len(np.unique(self.partition[indices])) < least_partitions:
            return None
        return self.rows.take(pa.array(indices))

    def between(self, first: date, last: date) -> slice:
        """The predictions of partitions first to last."""
        days = self.prediction_partition
        start, end = np.searchsorted(days, _day(first)), np.searchsorted(days, _day(last), side="right")
        return slice(int(start), int(end))

    def labels_known(self, partition: date, as_of: date) -> tuple[Integers, Integers]:
        """Which predictions of a partition have a label by `as_of`, and the label as known then. Raises LookAhead."""
        indices = self.known(as_of, partition, partition)
        _no_look_ahead("A calibration", as_of, self.known_on[indices], self.partition[indices], partition)
        return self.position[indices], self._labels(indices)

    def features(self, predictions: slice) -> pa.Table:
        """The rows of predictions, each with its newest label."""
        return self.rows.take(pa.array(self.newest[predictions]))

    def _labels(self, indices: Integers) -> Integers:
        return np.asarray(self.rows[self.label].take(pa.array(indices)).to_numpy(), dtype=np.int64)


@dataclass(frozen=True)
class Walk:
    """The scores that one spec would have published. Arrays have one value per prediction, in History's order.

    `raw`: the version's scores, `scores`: calibrated. `trained_on`: by partition, the partition whose training fitted
    the version. `baseline`: empty, or one of FROZEN. `graph_difference`: the largest difference between the fitted
    pipeline and its ONNX graph on the rows of the last origin; None for a baseline.
    """

    spec: ModelSpec
    baseline: str
    partition: Integers
    labels: Integers
    raw: Floats
    scores: Floats
    trained_on: dict[date, date]
    graph_difference: float | None = None


@dataclass(frozen=True)
class Plan:
    """One walk: the spec over the partitions first to last, refitted every `refit_every` partitions from first - 1 on.

    `minimum_days`: partitions that a training needs. `threads`: of one fit. With `frozen`, the version of the first
    origin scores all partitions, too.
    """

    spec: ModelSpec
    signature: Signature
    first: date
    last: date
    refit_every: int
    minimum_days: int
    threads: int = 1
    frozen: bool = False

    @property
    def first_origin(self) -> date:
        """The partition whose training fits the version of `first`."""
        return self.first - timedelta(days=1)

    def origins(self) -> list[tuple[date, date, date]]:
        """Each training partition, with the first and last partition that its version scores, warm-up included."""
        half_lives = WARM_UP_HALF_LIVES * self.spec.calibration.half_life_days
        origin = self.first_origin - timedelta(days=math.ceil(half_lives / self.refit_every) * self.refit_every)
        origins = []
        while origin < self.last:
            following = origin + timedelta(days=self.refit_every)
            origins.append((origin, origin + timedelta(days=1), min(following, self.last)))
            origin = following
        return origins


@dataclass(frozen=True)
class _OriginScores:
    """Scores of one version: `raw` of its own predictions; `frozen` of all reported ones, for the baselines."""

    raw: Floats
    frozen: Floats | None
    graph_difference: float | None


def walk_forward(history: History, plan: Plan, pool: Executor | None = None) -> list[Walk]:
    """The walk of the plan's spec; with `plan.frozen` followed by the frozen baselines, see Walk.

    Before `first`, partitions are walked for WARM_UP_HALF_LIVES as far as there are enough rows. `pool`: processes
    whose initializer was `share(history)`; origins are then fitted in parallel. The same arguments give the same
    scores. Raises LookAhead, and TerminalError if `first` - 1 has too few training rows or there are no rows to score.
    """
    reported = history.between(plan.first, plan.last)
    if reported.stop == reported.start:
        raise TerminalError(
            "NS-BACKTEST-003", f"No training rows with labels of the partitions {plan.first} to {plan.last}: run train."
        )
    origins = plan.origins()
    if pool is None:
        fitted = [_scores_of_origin(history, plan, *origin) for origin in origins]
    else:
        fitted = list(pool.map(_scores_of_shared, [plan] * len(origins), *zip(*origins, strict=True)))
    raw = np.full(history.predictions, np.nan)
    frozen_raw = raw.copy()
    trained_on: dict[date, date] = {}
    for (origin, start, end), scores in zip(origins, fitted, strict=True):
        if scores is None:
            continue
        raw[history.between(start, end)] = scores.raw
        trained_on |= dict.fromkeys(partition_range(start, end), origin)
        if scores.frozen is not None:
            frozen_raw[: reported.start] = raw[: reported.start]
            frozen_raw[reported] = scores.frozen
    last = fitted[-1]
    walks = [_walk(history, plan, "", raw, trained_on, last.graph_difference if last else None)]
    if plan.frozen:
        origins_frozen = trained_on | dict.fromkeys(partition_range(plan.first, plan.last), plan.first_origin)
        walks += [_walk(history, plan, name, frozen_raw, origins_frozen) for name in FROZEN]
    return walks


_shared: History | None = None


def share(history: History) -> None:
    """Keep the history in this process: the initializer of a pool's processes."""
    global _shared
    _shared = history


def _scores_of_shared(plan: Plan, origin: date, start: date, end: date) -> _OriginScores | None:
    if _shared is None:
        raise TerminalError(
            "NS-BACKTEST-004", "This process has no rows: start the pool with initializer=share, initargs=(history,)."
        )
    return _scores_of_origin(_shared, plan, origin, start, end)


def _scores_of_origin(history: History, plan: Plan, origin: date, start: date, end: date) -> _OriginScores | None:
    """Fit the version of one origin and score its predictions; None in the warm-up if there are too few rows."""
    rows = history.fitted_on(origin, plan.minimum_days)
    if rows is None:
        if start < plan.first:
            return None
        raise TerminalError(
            "NS-BACKTEST-005",
            f"By partition {origin} fewer than {plan.minimum_days} partitions with labels were known, so no version of "
            f"{plan.spec.spec_id} can be fitted. Start the backtest later, or load more history.",
        )
    model = fit_spec(plan.spec, rows, history.label, plan.signature, as_of=origin, threads=plan.threads)
    scored = history.features(history.between(start, end))
    raw = _version_scores(model, scored, plan.threads)
    frozen = None
    if plan.frozen and origin == plan.first_origin:
        frozen = _version_scores(model, history.features(history.between(plan.first, plan.last)), plan.threads)
    return _OriginScores(raw, frozen, _graph_difference(model, scored, raw, plan.threads) if end == plan.last else None)


def _walk(
    history: History,
    plan: Plan,
    baseline: str,
    raw: Floats,
    trained_on: Mapping[date, date],
    graph_difference: float | None = None,
) -> Walk:
    reported = history.between(plan.first, plan.last)
    partition = history.prediction_partition[reported]
    scores = raw if baseline == "frozen" else _calibrated(plan, history, raw, trained_on)
    return Walk(
        spec=plan.spec,
        baseline=baseline,
        partition=partition,
        labels=history.labels[reported],
        raw=raw[reported],
        scores=scores[reported],
        trained_on={day: trained_on[day] for day in map(_date, np.unique(partition))},
        graph_difference=graph_difference,
    )


def _calibrated(plan: Plan, history: History, raw: Floats, trained_on: Mapping[date, date]) -> Floats:
    """Raw scores [predictions], those of the plan's partitions calibrated as in the nightly run."""
    spec, scores = plan.spec.calibration, raw.copy()
    for partition in partition_range(plan.first, plan.last):
        past_scores = []
        for past in partition_range(partition - timedelta(days=window_days(spec)), partition - timedelta(days=1)):
            predictions = history.between(past, past)
            if past not in trained_on or predictions.start == predictions.stop:
                continue
            if trained_on[past] >= past:
                raise LookAhead(
                    "NS-BACKTEST-006",
                    f"The version of {trained_on[past]} scored partition {past}; only later ones are its.",
                )
            indices, labels = history.labels_known(past, partition)
            # Age of the day that the labels are of.
            age = (partition - past).days - 1
            rows = predictions.stop - predictions.start
            past_scores.append(LabelledScores(past, age, raw[indices], labels.astype(np.float64), rows))
        now = history.between(partition, partition)
        scores[now] = calibrated(fit_calibration(spec, past_scores), raw[now])
    return scores


def _version_scores(model: FittedModel, rows: pa.Table, threads: int) -> Floats:
    """Scores of rows [n]: of the fitted pipeline, or of its graph where the two differ by design (int8)."""
    if rows.num_rows == 0:
        return np.empty(0)
    if model.graph is not None:
        return score(load_session(model.graph, threads), model.signature, rows)
    return model.probability(rows)


def _graph_difference(model: FittedModel, rows: pa.Table, scores: Floats, threads: int) -> float | None:
    """The largest difference between the shipped graph's scores and these [n]; None without rows."""
    if rows.num_rows == 0:
        return None
    graph_scores = score(load_session(export_version(model).graph, threads), model.signature, rows)
    return float(np.abs(graph_scores - scores).max())


def _no_look_ahead(what: str, as_of: date, known_on: Integers, partition: Integers, newest: date) -> None:
    """Raise LookAhead if a row was known after `as_of` or is of a partition after `newest`."""
    late = int((known_on > _day(as_of)).sum())
    ahead = int((partition > _day(newest)).sum())
    if late or ahead:
        raise LookAhead(
            "NS-BACKTEST-007",
            f"{what} of partition {as_of} would use {late} labels known later and {ahead} rows of partitions after "
            f"{newest}. This is an error in nightshift.core.backtest.walk; its scores cannot be trusted.",
        )


def _days(column: pa.ChunkedArray) -> Integers:
    return np.asarray(pc.cast(pc.cast(column, pa.date32()), pa.int32()).to_numpy(), dtype=np.int64)


def _day(day: date) -> int:
    return (day - EPOCH).days


def _date(day: int) -> date:
    return EPOCH + timedelta(days=int(day))
