"""Walk-forward over past partitions: what a spec would have published, had it been in service.

As the night runs: the rows of partition D (the predictions for the day after) are scored by a version that the
training of an earlier partition T made, T <= D - 1, fitted on rows of partitions up to T - 1 with the labels known by
T. The calibration of D rests on the spec's own raw scores of partitions up to D - 1 and on the labels known by D. Only
the losses use labels of any age. Whatever breaks this raises LookAhead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.estimators import FittedModel
from nightshift.core.feature_computation import PARTITION
from nightshift.core.inference.calibration import LabelledScores, calibrated, fit_calibration, window_days
from nightshift.core.models.version import export_version, fit_spec
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.core.training_rows import KNOWN_ON, with_label_order
from nightshift.declare.models import CalibrationSpec, ModelSpec
from nightshift.errors import LookAhead, TerminalError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

WARM_UP_HALF_LIVES = 3
"""Partitions walked before the first one reported, in half-lives of the calibration: it needs scores to start from."""

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class History:
    """Training rows of all partitions, every label of a row in the order in which it became known.

    `rows`: sorted by partition and key, the label known last first. For each row `partition` and `known_on` in days
    since 1970, and `position`: which prediction it is, 0 to `predictions` - 1, in the same order. `newest`: the row
    [predictions] with the label known last.
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
        for a label that was known before the day it is about began, TerminalError if there are no rows."""
        if not rows.num_rows:
            raise TerminalError("There are no training rows to walk over: run train for the partitions first.")
        ordered, repeats = with_label_order(rows, key)
        partition, known_on = (_days(ordered[name]) for name in (PARTITION, KNOWN_ON))
        if early := int((known_on <= partition).sum()):
            raise LookAhead(
                f"{early} training rows state a label that was known on or before the partition that predicted it, "
                f"the first of partition {_date(partition[int(np.argmax(known_on <= partition))])}. "
                "Correct the use case's training spine: a label is known in a later partition than its features."
            )
        position = np.cumsum(~repeats) - 1
        return cls(ordered, label, partition, known_on, position, np.flatnonzero(~repeats))

    @cached_property
    def predictions(self) -> int:
        """How many different predictions there are."""
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
        """What the training of partition `as_of` fits; None if it is of too few partitions. Raises LookAhead."""
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
        """The rows of some predictions."""
        return self.rows.take(pa.array(self.newest[predictions]))

    def _labels(self, indices: Integers) -> Integers:
        return np.asarray(self.rows[self.label].take(pa.array(indices)).to_numpy(), dtype=np.int64)


@dataclass(frozen=True)
class Walk:
    """What one spec would have published. Arrays are over the predictions of `partitions`, in History's order.

    `raw`: the version's scores, `scores`: calibrated. `trained_on`: by partition, the partition whose training made
    the version. `baseline`: empty, or `frozen` for the version of the first origin, never refitted nor calibrated, or
    `frozen_calibrated` for the same with calibration. `graph_difference`: the largest difference between the fitted
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


def walk_forward(
    spec: ModelSpec,
    history: History,
    signature: Signature,
    *,
    first: date,
    last: date,
    refit_every: int,
    minimum_days: int,
    threads: int,
    frozen: bool = False,
) -> list[Walk]:
    """Walk a spec over the partitions first to last, refitted every `refit_every` partitions from first - 1 on.

    `minimum_days`: partitions that a training needs. With `frozen`, two more walks follow: the version of the first
    origin, without and with calibration. Before `first`, partitions are walked for WARM_UP_HALF_LIVES as far as there
    are enough rows. The same arguments give the same scores. Raises LookAhead, and TerminalError if nothing was known
    to fit by `first` - 1 or there are no rows between first and last.
    """
    reported = history.between(first, last)
    if reported.stop == reported.start:
        raise TerminalError(f"No training rows with labels of the partitions {first} to {last}: run train for them.")
    raw = np.full(history.predictions, np.nan)
    frozen_raw = raw.copy()
    trained_on: dict[date, date] = {}
    model = None
    for origin, block in _origins(spec.calibration, first, last, refit_every):
        rows = history.fitted_on(origin, minimum_days)
        if rows is None and block[0] < first:
            continue
        if rows is None:
            raise TerminalError(
                f"By partition {origin} fewer than {minimum_days} partitions with labels were known, so no version of "
                f"{spec.spec_id} can be fitted. Start the backtest later, or load more history."
            )
        model = fit_spec(spec, rows, history.label, signature, as_of=origin, threads=threads)
        predictions = history.between(*block)
        raw[predictions] = _answers(model, history.features(predictions), threads)
        if origin == first - timedelta(days=1) and frozen:
            frozen_raw[: reported.start] = raw[: reported.start]
            frozen_raw[reported] = _answers(model, history.features(reported), threads)
        trained_on |= dict.fromkeys(_partitions(*block), origin)
    if model is None:
        raise TerminalError(f"The backtest of {spec.spec_id} from {first} to {last} has no origin.")
    difference = _graph_difference(model, history.features(history.between(*block)), threads)
    first_origin = dict.fromkeys(_partitions(first, last), first - timedelta(days=1))

    def walk(baseline: str, raw: Floats, scores: Floats, trained: dict[date, date], graph: float | None) -> Walk:
        partition = history.prediction_partition[reported]
        days = {_date(day) for day in np.unique(partition)}
        of_partition = {day: origin for day, origin in trained.items() if day in days}
        return Walk(
            spec, baseline, partition, history.labels[reported], raw[reported], scores[reported], of_partition, graph
        )

    walks = [
        walk("", raw, _calibrated(spec.calibration, history, raw, trained_on, first, last), trained_on, difference)
    ]
    if frozen:
        origins = trained_on | first_origin
        scores = _calibrated(spec.calibration, history, frozen_raw, origins, first, last)
        walks.append(walk("frozen", frozen_raw, frozen_raw, first_origin, None))
        walks.append(walk("frozen_calibrated", frozen_raw, scores, first_origin, None))
    return walks


def _origins(
    calibration: CalibrationSpec, first: date, last: date, refit_every: int
) -> Iterator[tuple[date, tuple[date, date]]]:
    """Each training partition with the first and the last partition that its version scores, the warm-up included."""
    warm_up = math.ceil(WARM_UP_HALF_LIVES * calibration.half_life_days / refit_every)
    origin = first - timedelta(days=1 + warm_up * refit_every)
    while origin < last:
        following = origin + timedelta(days=refit_every)
        yield origin, (origin + timedelta(days=1), min(following, last))
        origin = following


def _calibrated(
    spec: CalibrationSpec, history: History, raw: Floats, trained_on: dict[date, date], first: date, last: date
) -> Floats:
    """Raw scores [predictions], those of the partitions first to last calibrated as each night would have."""
    scores = raw.copy()
    for partition in _partitions(first, last):
        seen = []
        for past in _partitions(partition - timedelta(days=window_days(spec)), partition - timedelta(days=1)):
            predictions = history.between(past, past)
            if past not in trained_on or predictions.start == predictions.stop:
                continue
            if trained_on[past] >= past:
                raise LookAhead(f"The version of {trained_on[past]} scored partition {past}; only later ones are its.")
            known, labels = history.labels_known(past, partition)
            age = (partition - past).days - 1
            seen.append(
                LabelledScores(past, age, raw[known], labels.astype(np.float64), predictions.stop - predictions.start)
            )
        now = history.between(partition, partition)
        scores[now] = calibrated(fit_calibration(spec, seen), raw[now])
    return scores


def _answers(model: FittedModel, rows: pa.Table, threads: int) -> Floats:
    """Scores of rows [n]: of the fitted pipeline, or of its graph where that does not answer like it (int8)."""
    if rows.num_rows == 0:
        return np.empty(0)
    if model.graph is not None:
        return score(load_session(model.graph, threads), model.signature, rows)
    return model.probability(rows)


def _graph_difference(model: FittedModel, rows: pa.Table, threads: int) -> float | None:
    if rows.num_rows == 0:
        return None
    graph = export_version(model).graph
    answers = score(load_session(graph, threads), model.signature, rows)
    return float(np.abs(answers - _answers(model, rows, threads)).max())


def _no_look_ahead(what: str, as_of: date, known_on: Integers, partition: Integers, newest: date) -> None:
    """Raise LookAhead if a row was known after `as_of` or is of a partition after `newest`."""
    late = int((known_on > _day(as_of)).sum())
    ahead = int((partition > _day(newest)).sum())
    if late or ahead:
        raise LookAhead(
            f"{what} of partition {as_of} would use {late} labels known later and {ahead} rows of partitions after "
            f"{newest}. This is an error in nightshift.core.backtest; its scores cannot be trusted."
        )


def _partitions(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _days(column: pa.ChunkedArray) -> Integers:
    return np.asarray(pc.cast(pc.cast(column, pa.date32()), pa.int32()).to_numpy(), dtype=np.int64)


def _day(day: date) -> int:
    return (day - EPOCH).days


def _date(day: int) -> date:
    return EPOCH + timedelta(days=int(day))
