"""Measure a weekly classifier two-sample test on all features of 2013 together, with and without planted faults.

    python benchmarks/joint_drift.py [--cache DIR]

Each week a classifier separates rows of the last 7 days from those of the 28 days before; whole days are left out for
its scores. The area under its ROC curve is compared with that of the weeks before, by the rule of the columns. The
faults leave the values of each column as they are, or ordinary. DIR keeps training rows for the next run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from flight_rows import training_rows
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nightshift.core.arrays import Floats
from nightshift.core.monitoring.drift import compare
from nightshift.declare.discovery import load_use_case

USE_CASE = load_use_case("flight_delay")
POLICY = USE_CASE.drift
EPOCH = date(1970, 1, 1)
NOW, BEFORE, ROWS_A_DAY, LEAST_WEEKS = 7, 28, 100, 6
FIRST_WEEK, WEEKS = date(2013, 2, 10), 46
FAULT_WEEKS = (10, 18, 29, 40)
ROWWISE = ("flight_schedule", "plane", "flight_delays", "flight_form")
"""Feature views with values of single flights."""

Days = Mapping[int, Floats]
"""Features [ROWS_A_DAY, features] by partition."""
Fault = Callable[[Days, int, list[str]], Floats]


def sampled(cache: Path | None) -> tuple[dict[int, Floats], list[str]]:
    """ROWS_A_DAY rows of each partition, and the names of their features."""
    path = cache / "rows.parquet" if cache else None
    rows = pq.read_table(path) if path is not None and path.exists() else training_rows(USE_CASE)
    names = [name for table in USE_CASE.features.tables for name in table.numeric]
    partition = rows["partition"].to_numpy().astype("datetime64[D]").astype(int)
    values = np.column_stack([rows[name].to_numpy() for name in names]).astype(np.float64)
    days = {}
    for day in np.unique(partition):
        own = np.flatnonzero(partition == day)
        days[int(day)] = values[np.random.default_rng(day).choice(own, ROWS_A_DAY)]
    return days, names


def shuffled(*columns: str) -> Fault:
    """Columns of other rows of the day: each with its own values."""

    def apply(days: Days, day: int, names: list[str]) -> Floats:
        values = days[day].copy()
        for column in columns:
            at = names.index(column)
            values[:, at] = np.random.default_rng(day).permutation(values[:, at])
        return values

    return apply


def exchanged(one: str, other: str) -> Fault:
    """Two columns with each other's values."""

    def apply(days: Days, day: int, names: list[str]) -> Floats:
        values = days[day].copy()
        pair = [names.index(one), names.index(other)]
        values[:, pair] = values[:, pair[::-1]]
        return values

    return apply


def lagged(view: str) -> Fault:
    """The features of a view as they were a day before."""

    def apply(days: Days, day: int, names: list[str]) -> Floats:
        own = [names.index(name) for table in USE_CASE.features.tables if table.name == view for name in table.numeric]
        values = days[day].copy()
        values[:, own] = days[day - 1][:, own]
        return values

    return apply


def an_hour_late(days: Days, day: int, names: list[str]) -> Floats:
    values = days[day].copy()
    for name in ("departure_minute", "arrival_minute"):
        at = names.index(name)
        values[:, at] = (values[:, at] + 60) % 1440
    return values


FAULTS: Mapping[str, Fault] = {
    "departures of other rows": shuffled("departure_minute"),
    "distances of other rows": shuffled("distance_miles"),
    "late rates of other flights": shuffled("flight_relative_late_rate_60d"),
    "wind from east and north exchanged": exchanged("wind_from_east_mph", "wind_from_north_mph"),
    "weather a day late": lagged("origin_weather"),
    "levels a day late": lagged("origin_level"),
    "departures an hour late": an_hour_late,
}


def separable(days: Days, now: Days, last: int, columns: npt.NDArray[np.bool_], linear: bool) -> float:
    """The area under the curve of a classifier that tells the last NOW days from the BEFORE days before them."""
    span = range(last - NOW - BEFORE + 1, last + 1)
    known = [day for day in span if day in days]
    rows = np.concatenate([now.get(day, days[day])[:, columns] for day in known])
    group = np.repeat(known, ROWS_A_DAY)
    label = group > last - NOW
    classifier = (
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
        if linear
        else HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8, random_state=0)
    )
    rows = np.nan_to_num(rows) if linear else rows
    folds = StratifiedGroupKFold(4, shuffle=True, random_state=0)
    scores = cross_val_predict(classifier, rows, label, groups=group, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(label, scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path)
    days, names = sampled(parser.parse_args().cache)
    rowwise = {name for table in USE_CASE.features.tables if table.name in ROWWISE for name in table.numeric}
    ends = [(FIRST_WEEK + timedelta(7 * week) - EPOCH).days for week in range(WEEKS)]
    for linear in (False, True):
        for what, columns in (
            ("all features", np.ones(len(names), bool)),
            ("features of single flights", np.array([name in rowwise for name in names])),
        ):
            started = time.process_time()
            ordinary = [separable(days, {}, last, columns, linear) for last in ends]
            seconds = (time.process_time() - started) / len(ends)
            alarms = []
            for week in range(LEAST_WEEKS, WEEKS):
                earlier = np.array(ordinary[max(0, week - 16) : week])
                if compare("joint", "", "shape", NOW, ordinary[week], earlier, POLICY).drifted:
                    alarms.append(ends[week])
            print(
                f"\n{'linear' if linear else 'trees'}, {what}: {seconds:.1f} s a week; areas of {WEEKS} weeks "
                f"{min(ordinary):.3f} to {max(ordinary):.3f}, median {np.median(ordinary):.3f}; alarms without a "
                f"fault: {', '.join(str(EPOCH + timedelta(day)) for day in alarms) or 'none'}",
                flush=True,
            )
            for fault, apply in FAULTS.items():
                cells = []
                for week in FAULT_WEEKS:
                    last = ends[week]
                    now = {day: apply(days, day, names) for day in range(last - NOW + 1, last + 1)}
                    value = separable(days, now, last, columns, linear)
                    one = compare(
                        "joint", "", "shape", NOW, value, np.array(ordinary[max(0, week - 16) : week]), POLICY
                    )
                    cells.append(f"{ordinary[week]:.3f} -> {value:.3f}{'*' if one.drifted else ' '}")
                print(f"  {fault:36}{'  '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
