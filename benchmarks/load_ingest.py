"""A night of many landed rows: seconds and memory of the tasks of ingest.

    python benchmarks/load_ingest.py [--rows 1000000]

The feed `outcomes` of a use case of `nightshift new` is delivered as CSV in one file and as Parquet in three, with a
key, a date, a timestamp, two texts and four numbers, on a real object store. Its SQL compares each row with another one
of its depot. Of the rows, one in 1,000 has the key of the one before, one in 500 is quarantined by an expectation and
one in 100 has a warning; the key's uniqueness is expected too, for which Great Expectations gets the whole column.

Exits with 1 if a task needs LARGEST_BYTES or more.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from load_tasks import CHUNK, LARGEST_BYTES, NAME, PARTITION, context_of, in_process, main, run_task, write_refs

from nightshift.declare.discovery import load_use_case
from nightshift.declare.feeds import Column, Expectation, Feed
from nightshift.declare.use_case import UseCase
from nightshift.io.landing import landing_prefix
from nightshift.steps.context import StepContext

TASKS = {
    "land": {},
    "profile": {"landed": "land"},
    "validate": {"landed": "land"},
    "publish": {"validated": "validate", "profiled": "profile"},
}
DELIVERIES = {"deliver CSV": ("csv", 1), "deliver Parquet": ("parquet", 3)}
PLANNED = 1_000
MORE = (Column("planned_at", "timestamp"), Column("weight_kg", "float64"))
SQL = """
SELECT *, weight_kg - lag(weight_kg) OVER (PARTITION BY depot ORDER BY planned_at, delivery, landed_row) AS heavier_kg
FROM landed
"""


def rows_of(feed: str, start: int, rows: int) -> pa.Table:
    """Some delivered rows of a feed; of each thousand outcomes the last one has the key of the one before."""
    rng, number = np.random.default_rng(start), start + np.arange(rows)
    day = PARTITION + timedelta(days=1) if feed == "plan" else PARTITION
    midnight = np.datetime64(datetime.combine(day, datetime.min.time()), "us")
    columns = {
        "day": pa.array(np.full(rows, np.datetime64(day)), pa.date32()),
        "delivery": number,
        "depot": rng.choice(["east", "north", "west"], rows),
        "vehicle": np.char.add("vehicle ", rng.integers(0, 1_000_000, rows).astype(str)),
        "distance_km": rng.uniform(0, 300, rows),
        "stops": rng.integers(0, 20, rows),
    }
    if feed == "plan":
        return pa.table(columns)
    columns["delivery"] = number - (number % 1000 == 999)
    columns["late"] = rng.integers(0, 2, rows)
    columns["planned_at"] = pa.array(midnight + rng.integers(0, 86_400, rows) * 1_000_000, pa.timestamp("us", "UTC"))
    columns["weight_kg"] = pa.array(rng.uniform(0, 1000, rows), mask=rng.uniform(size=rows) < 0.05)
    return pa.table(columns)


def write(path: Path, feed: str, first: int, last: int) -> None:
    """A file with the rows of a feed from `first` to before `last`."""
    schema = rows_of(feed, 0, 1).schema
    is_csv = path.suffix == ".csv"
    with pyarrow.csv.CSVWriter(path, schema) if is_csv else pq.ParquetWriter(path, schema) as writer:
        for start in range(first, last, CHUNK):
            writer.write_table(rows_of(feed, start, min(CHUNK, last - start)))


def deliver(context: StepContext, folder: Path, suffix: str, files: int, rows: int) -> None:
    """Put both feeds into the store, in place of what was there; the outcomes in that many files."""
    for feed, count, size in (("plan", 1, PLANNED), ("outcomes", files, rows)):
        prefix = landing_prefix(context.use_case, context.use_case.feed(feed), context.partition)
        for info in context.store.list(prefix):
            context.store.delete(info.key)
        bounds = [size * number // count for number in range(count + 1)]
        for number, (first, last) in enumerate(itertools.pairwise(bounds)):
            file = folder / f"{feed}_{number}.{suffix}"
            write(file, feed, first, last)
            context.store.put(f"{prefix}{file.name}", file)
            file.unlink()


def expectations() -> tuple[Expectation, ...]:
    """Expectations on the outcomes, of each severity."""
    of, depots = {"$PARAMETER": "partition"}, ["east", "north", "west"]
    between, in_set, regex = "values_to_be_between", "values_to_be_in_set", "values_to_match_regex"
    return (
        Expectation("expect_table_row_count_to_be_between", {"min_value": 1}, "critical", "no rows"),
        *(
            Expectation(f"expect_column_{kind}", {"column": column, **kwargs}, severity, f"{column} not as declared")
            for column, kind, severity, kwargs in (
                ("day", between, "critical", {"min_value": of, "max_value": of}),
                ("distance_km", between, "critical", {"max_value": 200, "mostly": 0.5}),
                ("distance_km", between, "quarantine", {"max_value": 299.4}),
                ("stops", between, "quarantine", {"min_value": 0, "max_value": 20}),
                ("planned_at", "values_to_not_be_null", "quarantine", {}),
                ("depot", in_set, "warning", {"value_set": depots}),
                ("vehicle", regex, "warning", {"regex": "^vehicle [0-9]+$"}),
                ("weight_kg", between, "warning", {"max_value": 990}),
                ("delivery", "values_to_be_unique", "critical", {}),
            )
        ),
    )


def use_case(folder: Path) -> UseCase:
    """The use case, its outcomes with more columns, SQL and expectations."""
    (folder / "outcomes.sql").write_text(SQL)

    def changed(feed: Feed) -> Feed:
        if feed.name == "plan":
            return replace(feed, expectations=())
        curated = (*feed.curated, *MORE, Column("heavier_kg", "float64"))
        return replace(
            feed, landed=(*feed.landed, *MORE), curated=curated, normalise=folder / "outcomes.sql",
            expectations=expectations(), max_bytes=2**36,
        )  # fmt: skip

    declared = load_use_case(NAME)
    return replace(declared, feeds=tuple(map(changed, declared.feeds)))


def task(name: str, folder: Path, rows: int) -> None:
    """Run one task in this process."""
    context = context_of(use_case(folder))
    if name in DELIVERIES:
        context.store.ensure_bucket()
        deliver(context, folder, *DELIVERIES[name], rows)
        write_refs(folder, {})
    else:
        run_task(context, folder, name, TASKS[name])


def measure(folder: Path, rows: int) -> list[str]:
    """Run everything and print it; returns the aims that were missed."""
    missed = []
    for delivery, (suffix, files) in DELIVERIES.items():
        in_process(__file__, delivery, folder, rows)
        for name in TASKS:
            taken = in_process(__file__, name, folder, rows)
            print(f"{name:10} {rows:>11,} rows  {suffix:8}{files} files  {taken}", flush=True)
            if taken.largest_bytes >= LARGEST_BYTES:
                missed.append(f"memory of {name} ({suffix})")
    return missed


if __name__ == "__main__":
    main(__doc__, task, measure)
