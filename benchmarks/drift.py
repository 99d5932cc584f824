"""Plant faults into real nights of 2013 and count the nights until the drift check names them; list ordinary alarms.

    python benchmarks/drift.py [--cache DIR] [--evidently PYTHON]

Deliveries, features and summaries are those of the use case's own SQL and of the product's own code, without any
service; DIR keeps them for the next run. PYTHON: an interpreter with Evidently, which then checks a night with the same
rows. Exits with 1 if a stated aim is missed.
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from flight_rows import curated_feeds, features_of

from nightshift.core.monitoring.day_summary import MOST_TEXTS, summarise
from nightshift.core.monitoring.drift import ColumnCounts, column_counts, describe, drift_of_columns
from nightshift.declare.discovery import load_use_case
from nightshift.declare.policies import DriftPolicy
from nightshift.documents.check_drift import ColumnDrift
from nightshift.partitions import partition_range

USE_CASE = load_use_case("flight_delay")
POLICY = USE_CASE.drift
STARTS = (date(2013, 4, 10), date(2013, 6, 5), date(2013, 8, 20), date(2013, 11, 5))
NIGHTS = 10
FIRST_NIGHT = date(2013, 2, 1)
CHUNK = 31
HISTORIES = (60, 150, 300)
"""Days of history before a check whose cost is measured."""
EVIDENTLY = """
import sys, time
from pathlib import Path
start = time.process_time()
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
imported, columns = time.process_time(), 0
for path in sorted(Path(sys.argv[1]).glob("*-night.parquet")):
    night = pd.read_parquet(path)
    reference = pd.read_parquet(str(path).replace("-night", "-reference"))
    texts = [name for name in night if night[name].dtype == object]
    definition = DataDefinition(
        numerical_columns=[name for name in night if name not in texts], categorical_columns=texts
    )
    rows = [Dataset.from_pandas(table, data_definition=definition) for table in (night, reference)]
    Report([DataDriftPreset()]).run(*rows).dict()
    columns += len(night.columns)
end = time.process_time()
print(f"{columns} columns, {end - imported:.1f} s, and {imported - start:.1f} s to import it")
"""

_shared: dict[str, Any] = {}

Tables = Mapping[str, pa.Table]
Alarms = list[tuple[date, ColumnDrift]]
Fault = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Planted:
    """A fault in one source from a night on; without `apply`, the source of the night before again.

    `named`: the columns of which one must be named (none: any of the source); "" is the row count.
    """

    fault: str
    source: str
    named: tuple[str, ...]
    apply: Fault | None
    within: int


def scaled(column: str, factor: float, offset: float = 0.0) -> Fault:
    """A column in another unit, to two decimals."""

    def apply(now: pa.Table) -> pa.Table:
        values = np.round(now[column].to_numpy().astype(np.float64) * factor + offset, 2)
        return with_column(now, column, pa.array(values, from_pandas=True))

    return apply


def shifted(column: str, hours: int) -> Fault:
    """Timestamps that many hours later."""

    def apply(now: pa.Table) -> pa.Table:
        return with_column(now, column, pc.add(now[column], pa.scalar(timedelta(hours=hours), pa.duration("us"))))

    return apply


def clock(hours: int) -> Fault:
    """Departures that many hours later, in the time stamp and in the minute of the day."""

    def apply(now: pa.Table) -> pa.Table:
        minutes = now["scheduled_departure_minute"].to_numpy()
        later = with_column(now, "scheduled_departure_minute", pa.array((minutes + 60 * hours) % 1440))
        return shifted("scheduled_departure_at", hours)(later)

    return apply


def renamed(column: str, old: str, new: str) -> Fault:
    """Another name for a category."""
    return lambda now: with_column(now, column, pc.if_else(pc.equal(now[column], old), pa.scalar(new), now[column]))


def without(column: str, value: str) -> Fault:
    """Rows of a category missing."""
    return lambda now: now.filter(pc.not_equal(now[column], value))


def frozen(column: str, value: float) -> Fault:
    """Every row of every night has the same ordinary value."""
    return lambda now: with_column(now, column, pa.array([value] * now.num_rows, now[column].type))


def nothing(now: pa.Table) -> pa.Table:
    """No row."""
    return now.slice(0, 0)


def a_week_late(now: pa.Table) -> pa.Table:
    """Outcomes of the same day of the week before."""
    return with_column(
        now,
        "flight_date",
        pc.cast(pc.subtract(pc.cast(now["flight_date"], pa.int32()), pa.scalar(7, pa.int32())), pa.date32()),
    )


def with_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def hours_later(hours: int) -> Fault:
    """What flight_schedule.sql makes of departures that many hours later, while the outcomes' times are right."""

    def apply(now: pa.Table) -> pa.Table:
        later = now[LATER].to_numpy() + hours
        return with_column(now, LATER, pa.array((later + 12) % 24 - 12, from_pandas=True))

    return apply


LATER = "departure_hours_later_than_last_week"
DEPARTURES = ("scheduled_departure_minute", "scheduled_departure_at")
PLANTED = (
    Planted("wind in m/s", "weather", ("wind_speed_mph",), scaled("wind_speed_mph", 0.44704), 10),
    Planted("wind in km/h", "weather", ("wind_speed_mph",), scaled("wind_speed_mph", 1.609344), 10),
    Planted("dew point in Celsius", "weather", ("dew_point_f",), scaled("dew_point_f", 5 / 9, -160 / 9), 10),
    Planted("temperature in Celsius", "weather", ("temperature_f",), scaled("temperature_f", 5 / 9, -160 / 9), 10),
    Planted("wind frozen at one value", "weather", ("wind_speed_mph",), frozen("wind_speed_mph", 9.20624), 10),
    # An hour late is found before: observations after the cutoff are quarantined.
    Planted("weather 5 h late", "weather", ("observed_at",), shifted("observed_at", 5), 10),
    Planted("weather of the day before again", "weather", (), None, 1),
    Planted("an airport's weather missing", "weather", ("", "origin"), without("origin", "LGA"), 1),
    Planted("hours for minutes", "flights", ("air_time_minutes",), scaled("air_time_minutes", 1 / 60), 1),
    Planted("an airport's outcomes missing", "flights", ("", "origin"), without("origin", "JFK"), 1),
    Planted("labels a week late", "flights", ("flight_date",), a_week_late, 1),
    Planted("no labels", "flights", ("",), nothing, 1),
    Planted("clock 1 h fast", "flight_schedule", (LATER,), hours_later(1), 1),
    Planted("clock 1 h slow", "flight_schedule", (LATER,), hours_later(-1), 1),
    Planted("clock 5 h fast", "schedule", DEPARTURES, clock(5), 1),
    Planted("a carrier (DL) renamed", "schedule", ("carrier",), renamed("carrier", "DL", "DX"), 1),
    Planted("a small carrier (VX) renamed", "schedule", ("carrier",), renamed("carrier", "VX", "XV"), 1),
    Planted("distance in kilometres", "schedule", ("distance_miles",), scaled("distance_miles", 1.609344), 1),
    Planted("a feature in km/h", "origin_weather", ("wind_speed_mph",), scaled("wind_speed_mph", 1.609344), 10),
    Planted("a feature frozen", "origin_weather", ("wind_speed_mph",), frozen("wind_speed_mph", 9.20624), 10),
    Planted(
        "a row feature frozen", "flight_form", ("flight_minutes_lost_60d",), frozen("flight_minutes_lost_60d", 5.0), 1
    ),
    Planted("features of the day before", "flight_form", (), None, 1),
)


def deliveries(days: Sequence[date]) -> dict[date, dict[str, pa.Table]]:
    """By partition: the delivered rows of each daily feed, and each feature table without identifiers."""
    feeds = curated_feeds(USE_CASE, list(days))
    daily = {name: table for name, table in feeds.items() if USE_CASE.feed(name).cadence != "snapshot"}
    chunks = [list(days[start : start + CHUNK]) for start in range(0, len(days), CHUNK)]
    with ProcessPoolExecutor(2) as pool:
        features = [tables for chunk in pool.map(features_of, chunks) for tables in chunk]
    found = {}
    for day, tables in zip(days, features, strict=True):
        delivered = {
            name: table.filter(pc.equal(table["delivered_on"], pa.scalar(day))).select(
                [column.name for column in USE_CASE.feed(name).curated]
            )
            for name, table in daily.items()
        }
        views = {
            table.name: tables[table.name].select([*table.numeric, *table.categorical, *table.monitored])
            for table in USE_CASE.features.tables
        }
        found[day] = delivered | views
    return found


def summary(tables: Tables, day: date) -> pa.Table:
    cutoff = USE_CASE.cutoff(day)
    return pa.concat_tables([summarise(name, table, partition=day, cutoff=cutoff) for name, table in tables.items()])


def drift_of_night(summaries: Mapping[date, pa.Table], night: date, policy: DriftPolicy) -> list[ColumnDrift]:
    """What has drifted on a night, by the summaries up to it."""
    window = partition_range(max(night - timedelta(days=policy.days - 1), min(summaries)), night)
    return [one for one in drift_of_columns(column_counts(summaries, window), policy) if one.drifted]


def nights_to_alarm(planted: Planted, tables: Mapping[date, Tables], start: date) -> int | None:
    """The night of the fault, from 1, on which one of its columns has drifted first; None if none does in NIGHTS.

    For a fault without names, any column of its source counts. Columns that drift without the fault do not count.
    """
    own = {day: {planted.source: tables[day][planted.source]} for day in tables if day < start + timedelta(NIGHTS)}
    summaries = {day: summary(found, day) for day, found in own.items() if day >= start - timedelta(POLICY.days)}
    ordinary = dict(summaries)
    for night in range(NIGHTS):
        day = start + timedelta(night)
        now, before = tables[day][planted.source], tables[day - timedelta(1)][planted.source]
        summaries[day] = summary({planted.source: before if planted.apply is None else planted.apply(now)}, day)
        until = {known: one for known, one in summaries.items() if known <= day}
        without_fault = {one.name for one in drift_of_night({k: ordinary[k] for k in until}, day, POLICY)}
        for one in drift_of_night(until, day, POLICY):
            if one.name not in without_fault and (not planted.named or one.column in planted.named):
                return night + 1
    return None


def ordinary_alarms(columns: Mapping[tuple[str, str], ColumnCounts], days: Sequence[date]) -> Alarms:
    """The first night of each drift without a fault: none of the same column in the `quiet_days` before."""
    nights = [position for position, night in enumerate(days) if night >= FIRST_NIGHT]
    _shared.update(columns=columns, days=days)
    # Forked after `_shared` is filled: the counts of a year are not copied to each process.
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        found = list(pool.map(drifted_on, nights, chunksize=8))
    last: dict[str, date] = {}
    alarms = []
    for position, drifted in zip(nights, found, strict=True):
        night = days[position]
        for one in drifted:
            known = last.get(one.name)
            if known is None or (night - known).days > POLICY.quiet_days:
                alarms.append((night, one))
            last[one.name] = night
    return alarms


def drifted_on(position: int) -> list[ColumnDrift]:
    """What has drifted on the night at a position among the shared days."""
    part = slice(max(0, position + 1 - POLICY.days), position + 1)
    columns = {
        key: ColumnCounts(one.counts[part], one.nulls[part], one.delivered[part], one.numbers)
        for key, one in _shared["columns"].items()
        if one.delivered[position]
    }
    return [one for one in drift_of_columns(columns, POLICY) if one.drifted]


def cost(summaries: Mapping[date, pa.Table], days: Sequence[date]) -> None:
    """Print the processor time of a check after histories of different lengths."""
    for history in HISTORIES:
        known = {day: summaries[day] for day in days[: history + 1]}
        started = time.process_time()
        drift_of_night(known, days[history], POLICY)
        print(f"check after {history} days of history: {time.process_time() - started:.2f} s of processor time")


def evidently(python: Path, tables: Mapping[date, Tables], night: date) -> None:
    """Print the processor time of Evidently's preset on a night, with the rows of the same reference days.

    Columns of identifiers are left out; timestamps and dates are numbers.
    """
    with tempfile.TemporaryDirectory() as folder:
        for source, table in tables[night].items():
            days = [day for day in tables if night - timedelta(POLICY.reference_days) <= day < night]
            reference = pa.concat_tables([tables[day][source] for day in days])
            for name, rows in (("night", table), ("reference", reference)):
                frame = {
                    column: plain(rows[column])
                    for column in rows.column_names
                    if not pa.types.is_string(rows[column].type) or len(reference[column].unique()) <= MOST_TEXTS
                }
                pq.write_table(pa.table(frame), Path(folder) / f"{source}-{name}.parquet")
        done = subprocess.run([python, "-c", EVIDENTLY, folder], capture_output=True, text=True, check=True)
    print(f"Evidently's preset on {night} and its reference: {done.stdout.strip()}")


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as they are, everything else as float64."""
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_date(column.type):
        column = column.cast(pa.int32())
    elif pa.types.is_timestamp(column.type) or pa.types.is_boolean(column.type):
        column = column.cast(pa.int64())
    return column.cast(pa.float64())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--evidently", type=Path, metavar="PYTHON")
    arguments = parser.parse_args()
    path = arguments.cache / "deliveries.pickle" if arguments.cache else None
    last = USE_CASE.last_partition
    assert last is not None
    started = time.perf_counter()
    if path is not None and path.exists():
        tables = pickle.loads(path.read_bytes())
    else:
        tables = deliveries(partition_range(USE_CASE.first_partition, last))
        if path is not None:
            path.write_bytes(pickle.dumps(tables))
    print(f"deliveries and features of {len(tables)} nights: {time.perf_counter() - started:.0f} s", flush=True)
    missed = []
    print(
        f"\n{'fault':34}{'source':16}" + "".join(f"{start:%d %b}".rjust(8) for start in STARTS) + "   nights to alarm"
    )
    with ProcessPoolExecutor(2) as pool:
        for planted in PLANTED:
            found = list(pool.map(alarm_of, [(planted.fault, start, sources_of(tables, planted)) for start in STARTS]))
            cells = "".join(("-" if one is None else str(one)).rjust(8) for one in found)
            print(f"{planted.fault:34}{planted.source:16}{cells}", flush=True)
            if any(one is None or one > planted.within for one in found):
                missed.append(f"{planted.fault}: within {planted.within} nights is the aim")
    started = time.perf_counter()
    summaries = {day: summary(found, day) for day, found in tables.items()}
    seconds = time.perf_counter() - started
    print(f"\nsummaries: {1000 * seconds / len(tables):.0f} ms a night")
    days = sorted(summaries)
    cost(summaries, days)
    if arguments.evidently is not None:
        evidently(arguments.evidently, tables, days[HISTORIES[1]])
    started = time.perf_counter()
    alarms = ordinary_alarms(column_counts(summaries, days), days)
    nights = sum(day >= FIRST_NIGHT for day in days)
    print(f"check: {1000 * (time.perf_counter() - started) / nights:.0f} ms a night, two at a time\n")
    by_night: dict[date, list[ColumnDrift]] = defaultdict(list)
    for night, one in alarms:
        by_night[night].append(one)
    print(f"Without a fault: {len(by_night)} of {nights} nights begin a drift.")
    for night, found in sorted(by_night.items()):
        more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
        print(f"  {night}  {describe(found[0])}{more}")
    for one in missed:
        print(f"missed: {one}")
    sys.exit(bool(missed))


def sources_of(tables: Mapping[date, Tables], planted: Planted) -> dict[date, Tables]:
    """The tables of a fault's source only: what a process needs."""
    return {day: {planted.source: found[planted.source]} for day, found in tables.items()}


def alarm_of(work: tuple[str, date, dict[date, Tables]]) -> int | None:
    """`nights_to_alarm` of the fault of that name, in a process of its own."""
    name, start, tables = work
    (planted,) = [one for one in PLANTED if one.fault == name]
    return nights_to_alarm(planted, tables, start)


if __name__ == "__main__":
    main()
