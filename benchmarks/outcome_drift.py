"""Plant faults into labels and scores of 2013 and count the nights until the drift check names them; list alarms.

    python benchmarks/outcome_drift.py [--cache DIR]

Scores are walked forward, refitted every four weeks, with the champion's nightly intercept, which is fitted on the
labels of the fault as a night would; versions are not refitted on them. No service is needed; DIR keeps training rows
and walks for the next run. Exits with 1 if a stated aim is missed.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from flight_rows import training_rows

from nightshift.core.arrays import Floats, Integers
from nightshift.core.backtest.walk import EPOCH, History, Plan, walk_forward
from nightshift.core.evaluation import LEAST_PROBABILITY, auc_or_none, log_odds, row_losses
from nightshift.core.inference.calibration import (
    LabelledScores,
    calibrated,
    fit_calibration,
    level_shift,
    window_days,
)
from nightshift.core.inference.certainty import level_band
from nightshift.core.monitoring.day_summary import summarise
from nightshift.core.monitoring.drift import column_counts, describe, drift_of_columns
from nightshift.core.monitoring.outcome_drift import EVERYTHING, SliceDay, concept_drift, label_drift
from nightshift.core.versions.version import signature_of_spec
from nightshift.declare.discovery import load_use_case
from nightshift.documents.check_drift import ColumnDrift
from nightshift.partitions import partition_range
from nightshift.services.backtests import find_spec

USE_CASE = load_use_case("flight_delay")
POLICY = USE_CASE.drift
SPEC = find_spec(USE_CASE, {}, "level_additive").model_copy(update={"calibration": USE_CASE.champion.calibration})
FIRST, LAST = date(2013, 2, 15), date(2013, 12, 29)
STARTS = (date(2013, 4, 10), date(2013, 6, 5), date(2013, 8, 20), date(2013, 11, 5))
NIGHTS = 20
RAW = "raw_score"
OVERALL = (EVERYTHING, USE_CASE.label)
"""Columns that concern all rows: residual and loss, and the share of positive labels."""


@dataclass(frozen=True)
class Rows:
    """Predictions with known labels, by partition (days since 1970, ascending). All arrays are [n].

    `old`: raw scores of the version of the first night. `slices`: by column, the value of each row.
    """

    partition: Integers
    known_on: Integers
    labels: Floats
    raw: Floats
    old: Floats
    slices: Mapping[str, npt.NDArray[np.str_]]

    def of(self, first: int, last: int) -> slice:
        """The rows of partitions first to last."""
        start, end = np.searchsorted(self.partition, first), np.searchsorted(self.partition, last, side="right")
        return slice(int(start), int(end))


Change = Callable[[Rows, slice], Floats]
"""New values [rows of the slice] of labels, raw scores or published scores, from what they would have been."""


@dataclass(frozen=True)
class Planted:
    """A fault from a night on, in the labels, in the raw scores, or in published scores (without calibration).

    `named`: the columns of which one must be named. `within`: the nights that are the aim, None for a fault that is
    listed without one.
    """

    fault: str
    named: tuple[str, ...]
    within: int | None
    labels: Change | None = None
    raw: Change | None = None
    uncalibrated: Change | None = None


def flipped(carrier: str = "") -> Change:
    """Labels the other way round, of one carrier or of all."""

    def change(rows: Rows, part: slice) -> Floats:
        own = rows.slices["carrier"][part] == carrier if carrier else np.ones(part.stop - part.start, bool)
        return np.where(own, 1 - rows.labels[part], rows.labels[part])

    return change


def more_positive(share: float) -> Change:
    """That share of all labels positive that were not."""

    def change(rows: Rows, part: slice) -> Floats:
        labels = rows.labels[part]
        chosen = np.random.default_rng(0).uniform(size=len(labels)) < share / (1 - labels.mean())
        return np.where(chosen, 1.0, labels)

    return change


def mixed_up(rows: Rows, part: slice) -> Floats:
    """Scores of other rows of the day."""
    rng, raw = np.random.default_rng(0), rows.raw[part].copy()
    for day in np.unique(rows.partition[part]):
        own = np.flatnonzero(rows.partition[part] == day)
        raw[own] = raw[rng.permutation(own)]
    return raw


def reversed_scores(rows: Rows, part: slice) -> Floats:
    """The largest log odds the smallest, around the mean."""
    odds = log_odds(rows.raw[part])
    return probability(2 * odds.mean() - odds)


def moved(by: float) -> Change:
    """Log odds of the raw scores moved, published without calibration."""
    return lambda rows, part: probability(log_odds(rows.raw[part]) + by)


def probability(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-odds)))


ALL = (EVERYTHING, RAW)
PLANTED = (
    Planted("labels of UA flipped", ("carrier=UA",), 10, labels=flipped("UA")),
    Planted("labels of a small carrier (9E) flipped", ("carrier=9E",), 10, labels=flipped("9E")),
    Planted("labels of the smallest (VX) flipped", ("carrier=VX",), None, labels=flipped("VX")),
    Planted("labels of all flipped", OVERALL, 10, labels=flipped()),
    Planted("10 points more labels positive", OVERALL, None, labels=more_positive(0.10)),
    Planted("20 points more labels positive", OVERALL, None, labels=more_positive(0.20)),
    Planted("scores of other rows of the day", ALL, 10, raw=mixed_up),
    Planted("scores reversed", ALL, 10, raw=reversed_scores),
    Planted("scores of February's version", ALL, None, raw=lambda rows, part: rows.old[part]),
    Planted("one score for all rows", ALL, 10, raw=lambda rows, part: np.full_like(rows.raw[part], 0.25)),
    Planted("calibration not applied", ALL, None, uncalibrated=moved(0.0)),
    Planted("log odds +0.5, not calibrated", ALL, None, uncalibrated=moved(0.5)),
    Planted("log odds -0.5, not calibrated", ALL, None, uncalibrated=moved(-0.5)),
)


def walked(cache: Path | None) -> Rows:
    """The rows of FIRST to LAST, walked forward."""
    path = cache / "rows.parquet" if cache else None
    if path is not None and path.exists():
        rows = pq.read_table(path)
    else:
        rows = training_rows(USE_CASE)
        if path is not None:
            pq.write_table(rows, path, compression="zstd")
    history = History.of(rows, USE_CASE.key_columns, USE_CASE.label)
    plan = Plan(
        spec=SPEC,
        signature=signature_of_spec(USE_CASE, SPEC),
        first=FIRST,
        last=LAST,
        refit_every=28,
        minimum_days=USE_CASE.training.minimum_days,
        threads=2,
        frozen=True,
    )
    fresh, frozen, _ = walk_forward(history, plan)
    predictions = history.between(FIRST, LAST)
    features: pa.Table = history.features(predictions)
    return Rows(
        partition=fresh.partition,
        known_on=history.known_on[history.newest[predictions]],
        labels=fresh.labels.astype(np.float64),
        raw=fresh.raw,
        old=frozen.raw,
        slices={name: np.array(features[name].to_pylist(), dtype=str) for name in USE_CASE.slices.columns},
    )


def published(rows: Rows, first: int, last: int) -> Floats:
    """Scores of partitions first to last [rows of these], calibrated as their nights would."""
    spec, found = SPEC.calibration, []
    for day in range(first, last + 1):
        past = []
        for before in range(max(day - window_days(spec), int(rows.partition[0])), day):
            part = rows.of(before, before)
            known = rows.known_on[part] <= day
            scores, labels = rows.raw[part][known], rows.labels[part][known]
            past.append(LabelledScores(_date(before), day - before - 1, scores, labels, len(known)))
        found.append(calibrated(fit_calibration(spec, past), rows.raw[rows.of(day, day)]))
    return np.concatenate(found)


def days_of(rows: Rows, scores: Floats) -> dict[str, list[SliceDay]]:
    """What performance_daily would have for each slice, and for all rows."""
    p = np.clip(scores, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    excess = row_losses(rows.labels.astype(np.int64), scores) + p * np.log(p) + (1 - p) * np.log1p(-p)
    everything = {EVERYTHING: np.ones(len(scores), bool)}
    members = everything | {
        f"{column}={value}": values == value for column, values in rows.slices.items() for value in np.unique(values)
    }
    found: dict[str, list[SliceDay]] = {}
    for name, own in members.items():
        days, starts, counts = np.unique(rows.partition[own], return_index=True, return_counts=True)
        label, residual, loss = (
            np.add.reduceat(values[own], starts) / counts for values in (rows.labels, rows.labels - scores, excess)
        )
        ends = (starts + counts).tolist()
        parts = [
            (rows.labels[own][start:end].astype(np.int64), scores[own][start:end])
            for start, end in zip(starts.tolist(), ends, strict=True)
        ]
        found[name] = [
            SliceDay(_date(day), int(count), *map(float, means), auc_or_none(*part))
            for day, count, *means, part in zip(days, counts, label, residual, loss, parts, strict=True)
            if name == EVERYTHING or count >= POLICY.least_slice_rows
        ]
    return found


def summaries_of(rows: Rows, part: slice) -> dict[date, pa.Table]:
    """The summary of the raw scores of each partition."""
    found = {}
    for day in np.unique(rows.partition[part]).tolist():
        own, table = _date(day), pa.table({RAW: rows.raw[rows.of(day, day)]})
        found[own] = summarise("scores", table, partition=own, cutoff=USE_CASE.cutoff(own))
    return found


@dataclass(frozen=True)
class Evidence:
    """What checks see: days with labels by slice, and summaries of raw scores by partition."""

    slices: Mapping[str, Sequence[SliceDay]]
    summaries: Mapping[date, pa.Table]


def drifted(evidence: Evidence, night: date) -> list[ColumnDrift]:
    """What the check of a night finds: labels of the partitions before it are known. Scores: if there are summaries."""
    first = night - timedelta(days=POLICY.days - 1)
    own = {name: [one for one in days if first <= one.partition < night] for name, days in evidence.slices.items()}
    own = {name: days for name, days in own.items() if days}
    counts = column_counts(evidence.summaries, partition_range(max(first, FIRST), night)) if evidence.summaries else {}
    scores = drift_of_columns(counts, POLICY)
    found = [*label_drift(own.get(EVERYTHING, ()), USE_CASE.label, POLICY), *concept_drift(own, POLICY)]
    return [one for one in [*found, *scores] if one.drifted and (one.column or one.source != "scores")]


def with_fault(rows: Rows, scores: Floats, planted: Planted, start: date) -> Evidence:
    """The evidence with a fault from `start` on. `scores`: those published without it."""
    first, last = _day(start), _day(start) + NIGHTS
    part, now = rows.of(first, last), scores.copy()
    changed = {
        name: np.concatenate([old[: part.start], change(rows, part), old[part.stop :]])
        for name, old, change in (("labels", rows.labels, planted.labels), ("raw", rows.raw, planted.raw))
        if change is not None
    }
    faulty = replace(rows, **changed)
    now[part] = published(faulty, first, last) if planted.uncalibrated is None else planted.uncalibrated(rows, part)
    summaries = {} if planted.raw is None else {**_ordinary.summaries, **summaries_of(faulty, part)}
    return Evidence(days_of(faulty, now), summaries)


def nights_to_alarm(planted: Planted, start: date) -> tuple[int | None, tuple[str, ...]]:
    """The night of the fault, from 1, on which one of its columns has drifted first, and all columns that have by then.

    Labels of a day are delivered, and those of faulty scores known, on the night after its partition. Columns that
    drift without the fault do not count.
    """
    evidence = with_fault(*_shared, planted, start)
    names: dict[str, None] = {}
    for night in range(1, NIGHTS + 1):
        day = start + timedelta(night - (planted.labels is None))
        ordinary = {one.column for one in _alarms[day]}
        new = [one.column for one in drifted(evidence, day) if one.column not in ordinary]
        names |= dict.fromkeys(new)
        if set(new) & set(planted.named):
            return night, tuple(names)
    return None, tuple(names)


def band_coverage(rows: Rows, scores: Floats) -> dict[str, tuple[int, float]]:
    """Days, and the share of them whose label rate is within the band made of the days before: of all rows, by origin.

    As a night makes it: of the newest `CertaintyPolicy.days` partitions up to the one before the last.
    """
    policy = USE_CASE.certainty
    days = np.unique(rows.partition).tolist()
    shifts = {day: level_shift(scores[rows.of(day, day)], rows.labels[rows.of(day, day)]) for day in days}
    within: dict[str, list[bool]] = {}
    for number, day in enumerate(days):
        past = [shifts[before] for before in days[max(number - policy.days, 0) : number]]
        if len(past) < policy.least_days:
            continue
        part = rows.of(day, day)
        low, high = level_band(past, scores[part], policy.band)
        origin = rows.slices["origin"][part]
        for name in ("", *np.unique(origin).tolist()):
            own = origin == name if name else np.ones(len(origin), bool)
            rate = rows.labels[part][own].mean()
            within.setdefault(name, []).append(bool(low[own].mean() <= rate <= high[own].mean()))
    return {name: (len(found), float(np.mean(found))) for name, found in within.items()}


_shared: tuple[Rows, Floats]
_ordinary: Evidence
_alarms: dict[date, list[ColumnDrift]]


def _alarm(work: tuple[int, date]) -> tuple[int | None, tuple[str, ...]]:
    return nights_to_alarm(PLANTED[work[0]], work[1])


def _night(night: date) -> list[ColumnDrift]:
    return drifted(_ordinary, night)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path)
    cache: Path | None = parser.parse_args().cache
    path = cache / "walked.pickle" if cache else None
    started = time.perf_counter()
    rows = pickle.loads(path.read_bytes()) if path is not None and path.exists() else walked(cache)
    if path is not None:
        path.write_bytes(pickle.dumps(rows))
    scores = published(rows, _day(FIRST), _day(LAST))
    loss = row_losses(rows.labels.astype(np.int64), scores).mean()
    seconds = time.perf_counter() - started
    print(f"{len(scores)} scores of {SPEC.name}, log loss {loss:.4f}: {seconds:.0f} s", flush=True)
    global _shared, _ordinary, _alarms
    _shared, _ordinary = (rows, scores), Evidence(days_of(rows, scores), summaries_of(rows, slice(None)))
    missed = []
    print(f"\n{'fault':42}" + "".join(f"{start:%d %b}".rjust(8) for start in STARTS) + "   named by then")
    # Forked after what they share is there.
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        nights = partition_range(FIRST, LAST)
        _alarms = dict(zip(nights, pool.map(_night, nights, chunksize=8), strict=True))
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        work = [(number, start) for number in range(len(PLANTED)) for start in STARTS]
        found = dict(zip(work, pool.map(_alarm, work), strict=True))
    for number, planted in enumerate(PLANTED):
        waits = [found[number, start][0] for start in STARTS]
        names = dict.fromkeys(name or "all rows" for start in STARTS for name in found[number, start][1])
        cells = "".join(("-" if one is None else str(one)).rjust(8) for one in waits)
        print(f"{planted.fault:42}{cells}   {', '.join(names)}")
        if planted.within is not None and any(one is None or one > planted.within for one in waits):
            missed.append(f"{planted.fault}: within {planted.within} nights is the aim")
    last: dict[str, date] = {}
    print("\nWithout a fault, the first nights of a drift:")
    beginnings = set()
    for night, columns in _alarms.items():
        for one in columns:
            before = last.get(one.name)
            if before is None or (night - before).days > POLICY.quiet_days:
                beginnings.add(night)
                print(f"  {night}  {describe(one)}")
            last[one.name] = night
    print(f"{len(beginnings)} of {len(nights)} nights, {100 * len(beginnings) / len(nights):.1f} in a hundred")
    print("\nDays whose label rate is within the band of the days before (aim: 80 %):")
    for name, (days, share) in band_coverage(rows, scores).items():
        print(f"  {name or 'all rows':10} {share:.1%} of {days} days")
    for text in missed:
        print(f"missed: {text}")
    sys.exit(bool(missed))


def _day(day: date) -> int:
    return (day - EPOCH).days


def _date(day: int) -> date:
    return EPOCH + timedelta(days=int(day))


if __name__ == "__main__":
    main()
