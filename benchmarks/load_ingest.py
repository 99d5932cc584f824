"""A night of many rows: memory of the tasks of ingest.

    python benchmarks/load_ingest.py [--rows 1000000]

A feed of eight columns is delivered as CSV and as Parquet, each in one file and in three, on a real object store. Its
SQL compares each row with another one of its depot, and one key in a thousand is delivered twice. Each task runs in a
process of its own, whose largest memory is read.

Exits with 1 if a task needs LARGEST_BYTES or more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef
from nightshift.declare.discovery import load_use_case
from nightshift.declare.feeds import Column, Feed
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.landing import landing_prefix
from nightshift.local import new_use_case, processes
from nightshift.local.scratch import running
from nightshift.pipeline import run_step
from nightshift.settings import load_settings
from nightshift.steps.context import StepContext

NAME = "load_case"
PARTITION = date(2024, 6, 30)
DAY = PARTITION + timedelta(days=1)
TASKS = ("land",)
DELIVERIES = tuple((suffix, files) for suffix in ("csv", "parquet") for files in (1, 3))
CHUNK = 65_536
LARGEST_BYTES = 2 * 2**30
MAX_BYTES = 2**36
COLUMNS = (
    Column("day", "date", nullable=False),
    Column("delivery", "int64", nullable=False),
    Column("planned_at", "timestamp"),
    Column("depot", "string"),
    Column("vehicle", "string"),
    Column("distance_km", "float64"),
    Column("weight_kg", "float64"),
    Column("stops", "int64"),
)
SQL = """
SELECT *, weight_kg - lag(weight_kg) OVER (PARTITION BY depot ORDER BY planned_at, delivery, landed_row) AS heavier_kg
FROM landed
"""


def rows_of(start: int, rows: int) -> pa.Table:
    """Some rows of the feed; of each thousand the last one has the key of the one before."""
    rng, number = np.random.default_rng(start), start + np.arange(rows)
    planned = np.datetime64(DAY, "us") + rng.integers(0, 86_400_000_000, rows).astype("timedelta64[us]")
    return pa.table(
        {
            "day": pa.array(np.full(rows, np.datetime64(DAY)), pa.date32()),
            "delivery": number - (number % 1000 == 999),
            "planned_at": pa.array(planned, pa.timestamp("us", "UTC")),
            "depot": rng.choice(["east", "north", "west"], rows),
            "vehicle": [f"van {number}" for number in rng.integers(0, 10_000, rows)],
            "distance_km": rng.uniform(0, 300, rows),
            "weight_kg": rng.uniform(0, 1000, rows),
            "stops": rng.integers(0, 20, rows),
        }
    )


def write(path: Path, first: int, last: int) -> None:
    """A file with the rows from `first` to before `last`."""
    schema = rows_of(0, 1).schema
    is_csv = path.suffix == ".csv"
    with pyarrow.csv.CSVWriter(path, schema) if is_csv else pq.ParquetWriter(path, schema) as writer:
        for start in range(first, last, CHUNK):
            writer.write_table(rows_of(start, min(CHUNK, last - start)))


def loaded(folder: Path) -> UseCase:
    """The use case of `nightshift new`, with this feed alone."""
    feed = Feed(
        "plan", landed=COLUMNS, curated=COLUMNS, normalise=folder / "plan.sql", key=("day", "delivery"),
        max_bytes=MAX_BYTES,
    )  # fmt: skip
    return replace(load_use_case(NAME), feeds=(feed,), labels_from=())


def deliver(context: StepContext, folder: Path, suffix: str, files: int, rows: int) -> None:
    """Put the files of a delivery into the store, in place of those before."""
    prefix = landing_prefix(context.use_case, context.use_case.feeds[0], context.partition)
    for info in context.store.list(prefix):
        context.store.delete(info.key)
    bounds = [rows * number // files for number in range(files + 1)]
    for number, (first, last) in enumerate(itertools.pairwise(bounds)):
        file = folder / f"plan_{number}.{suffix}"
        write(file, first, last)
        context.store.put(f"{prefix}{file.name}", file)
        file.unlink()


def task(name: str, folder: Path, suffix: str, files: int, rows: int) -> None:
    """Run one task in this process; refs by name are read from and written to `refs.json`."""
    settings = load_settings()
    context = StepContext(loaded(folder), settings, ArtifactStore(settings), PARTITION)
    stored = folder / "refs.json"
    if name == "deliver":
        context.store.ensure_bucket()
        deliver(context, folder, suffix, files, rows)
        stored.write_text("{}")
        return
    refs = {key: ArtifactRef.model_validate(ref) for key, ref in json.loads(stored.read_text()).items()}
    inputs: dict[str, dict[str, str]] = {"land": {}}
    refs[name] = run_step(name, context, **{argument: refs[key] for argument, key in inputs[name].items()})
    stored.write_text(json.dumps({key: ref.model_dump() for key, ref in refs.items()}))
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    (folder / "peak").write_text(str(int(peak[1]) * 1024 if peak else 0))


def in_process(name: str, folder: Path, suffix: str, files: int, rows: int) -> tuple[float, float, int]:
    """Seconds, seconds of the processor, and largest resident memory [bytes] of a task in a process of its own."""
    started, before = time.perf_counter(), os.times()
    command = [sys.executable, __file__, "--rows", str(rows), "--task", name, "--folder", str(folder)]
    subprocess.run([*command, "--suffix", suffix, "--files", str(files)], check=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, used, int((folder / "peak").read_text()) if name != "deliver" else 0


def main() -> None:
    """Measure, print, and exit with 1 if an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--suffix", help=argparse.SUPPRESS)
    parser.add_argument("--files", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.task:
        task(chosen.task, chosen.folder, chosen.suffix, chosen.files, chosen.rows)
        return
    processes.forget_ambient_stack(os.environ)
    folder = Path(tempfile.mkdtemp(prefix="nightshift-bench-"))
    folder.chmod(0o711)
    try:
        with running(folder / "services") as services:
            new_use_case.write(NAME, folder / "root")
            (folder / "plan.sql").write_text(SQL)
            os.environ |= services.s3_environment() | {
                "NIGHTSHIFT_ENVIRONMENT": "test",
                "NIGHTSHIFT_BUCKET": "benchmark",
                "NIGHTSHIFT_WAREHOUSE_URL": services.postgres.place.url("warehouse"),
                "NIGHTSHIFT_USE_CASE_ROOTS": str(folder / "root"),
                "NIGHTSHIFT_SETTLE_SECONDS": "0",
            }
            missed = measure(folder, chosen.rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


def measure(folder: Path, rows: int) -> list[str]:
    """Run everything and print it; returns the aims that were missed."""
    missed = []
    for suffix, files in DELIVERIES:
        in_process("deliver", folder, suffix, files, rows)
        for name in TASKS:
            took, used, largest = in_process(name, folder, suffix, files, rows)
            print(
                f"{name:10} {rows:>11,} rows  {suffix:8}{files} files  {took:8.1f} s, processor {used:7.1f} s  "
                f"{largest / 2**20:7,.0f} MiB",
                flush=True,
            )
            if largest >= LARGEST_BYTES:
                missed.append(f"memory of {name} ({suffix}, {files} files)")
    return missed


if __name__ == "__main__":
    main()
