"""How fast a night of a million predictions reaches the warehouse, against pandas `to_sql`.

    python -m benchmarks.publishing [--url URL] [--rows N]

`publish` is the whole of `Warehouse.publish_predictions` (stage, audit, swap, commit); `to_sql` only appends rows to
an unindexed table, which is less work. Read the ratio: both ran on the same machine in the same minute.
Without --url a PostgreSQL is started in a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import create_engine

from nightshift.artifact import ArtifactRef
from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.warehouse import Publication, Warehouse
from nightshift.local import processes
from nightshift.settings import Settings

DAY = date(2013, 6, 1)
ROWS = 1_000_000
TO_SQL_ROWS = 100_000


def predictions(use_case: UseCase, rows: int) -> pa.Table:
    """Made-up predictions of one day for the flights use case."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=rows)
    return pa.table(
        {
            "flight_date": pa.array([DAY] * rows, pa.date32()),
            "carrier": rng.choice(["UA", "B6", "EV", "DL"], rows),
            "flight": np.arange(rows),
            "origin": rng.choice(["EWR", "JFK", "LGA"], rows),
            "dest": rng.choice(["IAH", "MIA", "BQN", "ATL"], rows),
            "scheduled_departure_at": pa.array(
                [datetime(2013, 6, 1, 12, tzinfo=UTC)] * rows, pa.timestamp("us", "UTC")
            ),
            use_case.score: scores,
            "decision": scores >= use_case.decision_threshold,
            "model_version": np.full(rows, "benchmark"),
        }
    )


def publication(rows: int, digest: str) -> Publication:
    """A publication of that many rows; another digest, another publication."""
    ref = ArtifactRef(uri="s3://bucket/scores/", sha256=digest, kind="scores")
    return Publication(
        partition=date.fromordinal(DAY.toordinal() - 1),
        prediction_date=DAY,
        spec_id="benchmark",
        model_version="benchmark",
        role="champion",
        model=ref,
        calibration=ref,
        scores=ref,
        rows=rows,
    )


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextlib.contextmanager
def postgres(url: str | None) -> Iterator[str]:
    """The given server, or one of our own."""
    if url:
        yield url
        return
    from nightshift.local.postgres import start_postgres

    folder = Path(tempfile.mkdtemp(prefix="nightshift-bench-"))
    folder.chmod(0o711)
    server = start_postgres(folder / "postgres", databases=["warehouse"])
    try:
        yield server.place.url("warehouse")
    finally:
        processes.stop(server.process, interrupt=True)
        for path in (folder, server.place.outside):
            if path is not None:
                shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Run it once and print rows per second and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="PostgreSQL to use; a schema is made and dropped")
    parser.add_argument("--rows", type=int, default=ROWS)
    chosen = parser.parse_args()
    processes.forget_ambient_stack(os.environ)
    schema = f"benchmark_{secrets.token_hex(4)}"
    use_case = dataclasses.replace(load_use_case("flight_delay"), name=schema)
    table = predictions(use_case, chosen.rows)
    with postgres(chosen.url) as url:
        settings = Settings(bucket="benchmark", warehouse_url=SecretStr(url))
        warehouse = Warehouse(settings, use_case)
        warehouse.migrate()
        try:
            first = seconds(lambda: warehouse.publish_predictions(publication(chosen.rows, "first"), table))
            again = seconds(lambda: warehouse.publish_predictions(publication(chosen.rows, "again"), table))
            same = seconds(lambda: warehouse.publish_predictions(publication(chosen.rows, "again"), table))
            frame = table.slice(0, min(TO_SQL_ROWS, chosen.rows)).to_pandas()
            engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
            slow = seconds(lambda: frame.to_sql("appended", engine, schema=schema, index=False, chunksize=10_000))
            engine.dispose()
        finally:
            with warehouse_schema.connect(settings) as connection:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    rate, reference = chosen.rows / first, len(frame) / slow
    print(f"publish           {chosen.rows:>9,} rows  {first:7.2f} s  {rate:>10,.0f} rows/s")
    print(f"publish, replacing {chosen.rows:>8,} rows  {again:7.2f} s  {chosen.rows / again:>10,.0f} rows/s")
    print(f"publish, the same {chosen.rows:>9,} rows  {same:7.2f} s  (nothing to do)")
    print(f"pandas to_sql     {len(frame):>9,} rows  {slow:7.2f} s  {reference:>10,.0f} rows/s")
    print(f"ratio publish / to_sql: {rate / reference:.1f}")


if __name__ == "__main__":
    main()
