"""Ingest of many landed rows: seconds and largest memory of the tasks `profile`, `validate` and `publish`.

    python benchmarks/load_validate.py [--rows 1000000]

The landed artifact of a use case of `nightshift new` is committed directly: made-up labels of that many rows, with a
key, a date, a timestamp, two texts and three numbers, and a small plan. Each task runs in a process of its own, on a
real object store. Of the rows, one in 500 is quarantined and one in 100 has a warning; the key's uniqueness is expected
too, for which Great Expectations gets the whole column.

Exits with 1 if a task needs LARGEST_BYTES or more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from load import CHUNK, FIRST_KEY, LARGEST_BYTES, in_process

from nightshift.artifact import ArtifactRef
from nightshift.core.parquet_file import write_parquet
from nightshift.declare.discovery import load_use_case
from nightshift.declare.feeds import Column, Expectation, Feed
from nightshift.declare.use_case import UseCase
from nightshift.documents.ingest import Landed, LandedFeed
from nightshift.io.artifact_store import ArtifactStore
from nightshift.local import new_use_case, processes
from nightshift.local.scratch import running
from nightshift.pipeline import run_step
from nightshift.settings import load_settings
from nightshift.steps.context import StepContext

NAME = "load_case"
PARTITION = date(2024, 6, 30)
TASKS = {
    "profile": {"landed": "land"},
    "validate": {"landed": "land"},
    "publish": {"validated": "validate", "profiled": "profile"},
}
PLANNED = 1_000
MORE = (Column("planned_at", "timestamp"), Column("weight_kg", "float64"))


def feed_rows(feed: str, start: int, rows: int) -> pa.Table:
    """Some landed rows of a feed."""
    rng = np.random.default_rng(start)
    day = PARTITION + timedelta(days=1) if feed == "plan" else PARTITION
    midnight = np.datetime64(datetime.combine(day, datetime.min.time()), "us")
    columns = {
        "day": pa.array(np.full(rows, np.datetime64(day)), pa.date32()),
        "delivery": FIRST_KEY + start + np.arange(rows),
        "depot": rng.choice(["east", "north", "west"], rows),
        "vehicle": np.char.add("vehicle ", rng.integers(0, 1_000_000, rows).astype(str)),
        "distance_km": rng.uniform(0, 300, rows),
        "stops": rng.integers(0, 20, rows),
        "planned_at": pa.array(midnight + rng.integers(0, 86_400, rows) * 1_000_000, pa.timestamp("us", tz="UTC")),
        "weight_kg": pa.array(rng.uniform(0, 1000, rows), mask=rng.uniform(size=rows) < 0.05),
        "landed_uri": pa.repeat(f"s3://benchmark/landing/{NAME}/{feed}/dt={PARTITION}/{feed}.parquet", rows),
        "landed_row": pa.array(start + 1 + np.arange(rows)),
    }
    table = pa.table(columns)
    return table if feed == "plan" else table.add_column(8, "late", pa.array(rng.integers(0, 2, rows)))


def expectations(day: str) -> tuple[Expectation, ...]:
    """Expectations on one of the feeds, of each severity."""
    of, depots = {"$PARAMETER": day}, ["east", "north", "west"]
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


def use_case() -> UseCase:
    """The use case, with more columns and expectations."""
    declared = load_use_case(NAME)
    days = {"plan": "next_day", "outcomes": "partition"}

    def changed(feed: Feed) -> Feed:
        return replace(feed, curated=(*feed.curated, *MORE), expectations=expectations(days[feed.name]))

    return replace(declared, feeds=tuple(changed(feed) for feed in declared.feeds))


def land(context: StepContext, folder: Path, rows: int) -> ArtifactRef:
    """Commit the landed artifact."""
    files, feeds = {}, {}
    for feed, size in (("plan", PLANNED), ("outcomes", rows)):
        parts = (feed_rows(feed, start, min(CHUNK, size - start)) for start in range(0, size, CHUNK))
        files[f"{feed}.parquet"] = folder / feed
        write_parquet(folder / feed, feed_rows(feed, 0, 1).schema, parts)
        feeds[feed] = LandedFeed(delivered=size, quarantined=0, exact_duplicates=0, repeated_files={})
    files |= Landed(feeds=feeds).to_files()
    return context.commit("land", kind="landed", files=files, rows=PLANNED + rows)


def task(name: str, folder: Path, rows: int) -> None:
    """Run one task in this process; its refs by name are read from and written to `refs.json`."""
    settings, stored = load_settings(), folder / "refs.json"
    context = StepContext(use_case(), settings, ArtifactStore(settings), PARTITION)
    refs = {}
    if stored.exists():
        refs = {key: ArtifactRef.model_validate(ref) for key, ref in json.loads(stored.read_text()).items()}
    if name == "land":
        context.store.ensure_bucket()
        refs[name] = land(context, folder, rows)
    else:
        refs[name] = run_step(name, context, **{argument: refs[key] for argument, key in TASKS[name].items()})
        print(f"{name}: {refs[name].rows:,} rows", flush=True)
    stored.write_text(json.dumps({key: ref.model_dump() for key, ref in refs.items()}))


def main() -> None:
    """Measure, print, and exit with 1 if a task needs too much memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.task:
        task(chosen.task, chosen.folder, chosen.rows)
        return
    processes.forget_ambient_stack(os.environ)
    folder = Path(tempfile.mkdtemp(prefix="nightshift-bench-"))
    folder.chmod(0o711)
    missed = []
    try:
        with running(folder / "services") as services:
            new_use_case.write(NAME, folder / "root")
            os.environ |= services.s3_environment() | {
                "NIGHTSHIFT_ENVIRONMENT": "test",
                "NIGHTSHIFT_BUCKET": "benchmark",
                "NIGHTSHIFT_WAREHOUSE_URL": services.postgres.place.url("warehouse"),
                "NIGHTSHIFT_USE_CASE_ROOTS": str(folder / "root"),
            }
            for name in ("land", *TASKS):
                took, largest = in_process(name, folder, chosen.rows, Path(__file__))
                if name != "land":
                    print(f"{name:20} {chosen.rows:>11,} rows  {took:8.1f} s  {largest / 2**20:7,.0f} MiB", flush=True)
                    missed += [name] if largest >= LARGEST_BYTES else []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if missed:
        raise SystemExit(f"missed: memory of {', '.join(missed)}")


if __name__ == "__main__":
    main()
