"""What the gates `change`, `new_rows` and `feature_values` see on ordinary nights of 2013, and under planted faults.

    python benchmarks/version_gates.py [--rows FILE] [--every 10] [--faults 60]

Ordinary nights: every n-th partition from March; the champion's version is compared with that of one and of three
partitions before. Faults: on some of these nights, a version fitted on changed rows is compared with the ordinary
version of the partition before. A fault counts as stopped if any of the three gates fails. Exits with 1 if a fault
whose line says `must stop` is not stopped on a night, or more than 2 in 100 ordinary versions are. A fault of a feature
in all rows need not stop: training rows never change, so that no night brings it, and a version fitted without the
feature moves little.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from flight_rows import training_rows

from nightshift.core.backtest.walk import History
from nightshift.core.evaluation import log_odds
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.core.gates.change import check_change, check_feature_values, check_new_rows, reference_rows
from nightshift.core.models.fitted import FittedModel
from nightshift.core.versions.version import fit_spec, signature_of_spec
from nightshift.declare.discovery import load_use_case
from nightshift.deployment import GateResult

DAY = timedelta(days=1)
FIRST, LAST = date(2013, 3, 1), date(2013, 12, 29)
USE_CASE = load_use_case("flight_delay")
SIGNATURE = signature_of_spec(USE_CASE, USE_CASE.champion)
POLICY, LABEL = USE_CASE.change, USE_CASE.label

Change = Callable[[pa.Table, date], pa.Table]


def scaled(name: str, factor: float, days: int) -> Change:
    """A feature times a factor, in the rows of the newest `days` partitions (0: all)."""

    def change(rows: pa.Table, partition: date) -> pa.Table:
        values = np.asarray(rows[name].to_numpy(), np.float64)
        return _with(rows, name, np.where(_newest(rows, partition, days), values * factor, values))

    return change


def flipped(days: int) -> Change:
    """Labels reversed that the newest `days` partitions delivered."""

    def change(rows: pa.Table, partition: date) -> pa.Table:
        labels = np.asarray(rows[LABEL].to_numpy(), np.int64)
        return _with(rows, LABEL, np.where(_newest(rows, partition, days, KNOWN_ON), 1 - labels, labels))

    return change


def shuffled(rows: pa.Table, partition: date) -> pa.Table:
    """Labels of other rows of the same day, in all rows: a join on a wrong key."""
    labels, days = np.array(rows[LABEL].to_numpy(), np.int64), rows[PARTITION].to_numpy()
    random = np.random.default_rng(partition.toordinal())
    for start, end in zip(*_bounds(days), strict=True):
        labels[start:end] = random.permutation(labels[start:end])
    return _with(rows, LABEL, labels)


FAULTS: dict[str, tuple[bool, Change]] = {
    "labels of the newest day flipped": (True, flipped(1)),
    "labels of the newest 7 days flipped": (True, flipped(7)),
    "labels of all rows shuffled within their day": (True, shuffled),
    "departure time 0 on the newest day": (True, scaled("departure_minute", 0, 1)),
    "departure time 0 in all rows": (False, scaled("departure_minute", 0, 0)),
    "departure in hours instead of minutes, newest day": (True, scaled("departure_minute", 1 / 60, 1)),
    "distance in km, newest day": (False, scaled("distance_miles", 1.609, 1)),
    "distance in km, all rows": (False, scaled("distance_miles", 1.609, 0)),
    "flight's late rate 0 in all rows": (False, scaled("flight_relative_late_rate_60d", 0, 0)),
    "hour's late rate 0 in all rows": (False, scaled("hour_relative_late_rate_28d", 0, 0)),
}


@dataclass(frozen=True)
class Night:
    """The gates of one version, and the change of its scores."""

    partition: date
    gates: tuple[GateResult, ...]
    shift: float
    spread: float

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the gates that failed."""
        return tuple(gate.gate for gate in self.gates if gate.verdict == "fail")


@cache
def history(path: Path) -> History:
    """The training rows, read once per process."""
    return History.of(pq.read_table(path), USE_CASE.key_columns, LABEL)


def rows_of(path: Path, partition: date) -> pa.Table:
    """The rows that the training of a partition fits."""
    rows = history(path).fitted_on(partition, 1)
    if rows is None:
        raise ValueError(f"no rows before {partition}")
    return rows


def fit(rows: pa.Table, partition: date) -> FittedModel:
    """The champion's version of a partition."""
    return fit_spec(USE_CASE.champion, rows, LABEL, SIGNATURE, as_of=partition, threads=1)


def compared(rows: pa.Table, partition: date, after: FittedModel, before: FittedModel) -> Night:
    """The three gates on `after`, fitted on `rows`, which replaces `before`."""
    reference = reference_rows(rows, partition, POLICY)
    scored = reference.scored(POLICY.reference_rows)
    new, old = after.probability(scored), before.probability(scored)
    labels = np.asarray(reference.newest[LABEL].to_numpy(), np.int64)
    change = log_odds(new) - log_odds(old)
    gates = (
        check_change(new, old, "before", POLICY),
        check_new_rows(old[len(old) - len(labels) :], labels, "before", POLICY),
        check_feature_values(reference, SIGNATURE.numeric, POLICY),
    )
    return Night(partition, gates, float(change.mean()), float(change.std()))


def examine(path: Path, partition: date, faults: bool) -> tuple[dict[int, Night], dict[str, Night]]:
    """An ordinary night, against one and three partitions before, and each fault on it."""
    rows = rows_of(path, partition)
    after = fit(rows, partition)
    earlier = {lag: fit(rows_of(path, partition - lag * DAY), partition - lag * DAY) for lag in (1, 3)}
    ordinary = {lag: compared(rows, partition, after, before) for lag, before in earlier.items()}
    planted = {}
    for name, (_, change) in FAULTS.items() if faults else ():
        changed = change(rows, partition)
        planted[name] = compared(changed, partition, fit(changed, partition), earlier[1])
    return ordinary, planted


def _newest(rows: pa.Table, partition: date, days: int, column: str = PARTITION) -> np.ndarray:
    if days == 0:
        return np.ones(rows.num_rows, bool)
    first = np.datetime64(partition - days * DAY + (DAY if column == KNOWN_ON else timedelta(0)))
    return np.asarray(rows[column].to_numpy() >= first)


def _bounds(days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = np.flatnonzero(np.append(True, days[1:] != days[:-1]))
    return starts, np.append(starts[1:], len(days))


def _with(rows: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    position = rows.schema.get_field_index(name)
    return rows.set_column(position, name, pa.array(values, rows[name].type, from_pandas=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("build/training_rows_2013.parquet"))
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--faults", type=int, default=60, help="plant the faults every n partitions")
    arguments = parser.parse_args()
    if not arguments.rows.exists():
        arguments.rows.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(training_rows(USE_CASE), arguments.rows, compression="zstd")
    nights = [FIRST + n * DAY for n in range(0, (LAST - FIRST).days + 1, arguments.every)]
    planted_on = set(nights[:: max(1, arguments.faults // arguments.every)])
    ordinary: dict[int, list[Night]] = {1: [], 3: []}
    planted: dict[str, list[Night]] = {name: [] for name in FAULTS}
    with ProcessPoolExecutor(2) as pool:
        running = [pool.submit(examine, arguments.rows, night, night in planted_on) for night in nights]
        for one in running:
            of_lag, of_fault = one.result()
            for lag, night in of_lag.items():
                ordinary[lag].append(night)
                print(f"{night.partition} lag {lag} shift {night.shift:+.3f} spread {night.spread:.3f} {night.failed}")
            for name, night in of_fault.items():
                planted[name].append(night)
                print(f"{night.partition} {name}: shift {night.shift:+.3f} spread {night.spread:.3f} {night.failed}")
            sys.stdout.flush()
    print(
        f"\nordinary versions, bounds {POLICY.largest_shift:g} on the shift and {POLICY.largest_spread:g} on the spread"
    )
    too_many = False
    for lag, found in ordinary.items():
        spreads, shifts = (sorted(v) for v in ([n.spread for n in found], [abs(n.shift) for n in found]))
        stopped = [night for night in found if night.failed]
        too_many |= len(stopped) > 0.02 * len(found)
        print(
            f"  {lag} partitions apart: {len(found)} versions, spread median {np.median(spreads):.3f}, "
            f"largest {spreads[-1]:.3f}; shift largest {shifts[-1]:.3f}; stopped: "
            + (", ".join(f"{night.partition} ({' '.join(night.failed)})" for night in stopped) or "none")
        )
    print("\nplanted faults")
    slipped = False
    for name, found in planted.items():
        stopped = sum(bool(night.failed) for night in found)
        must = FAULTS[name][0]
        slipped |= must and stopped < len(found)
        gates = sorted({gate for night in found for gate in night.failed})
        spreads = [night.spread for night in found]
        print(
            f"  {name}: stopped on {stopped} of {len(found)} nights{' (must stop)' if must else ''} by "
            f"{', '.join(gates) or 'no gate'}; spread {min(spreads):.3f} to {max(spreads):.3f}"
        )
    if slipped or too_many:
        sys.exit(1)


if __name__ == "__main__":
    main()
