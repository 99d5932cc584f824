"""Point-in-time joins: our ASOF offline store against Feast's own DuckDB store, same files, same rows out.

Prints the seconds of both and their ratio on 337 k entity rows x 5 feature views (local Parquet:
Feast's store cannot read S3 by path). Needs ibis-framework[duckdb], which Feast's store stands on.

    python benchmarks/point_in_time.py [--rows 337000] [--days 365] [--least-ratio 5]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.local.processes import forget_ambient_stack

START = datetime(2013, 1, 2, 8, tzinfo=UTC)
FEATURES = 8
VIEWS = {"flight": 0, "route": 220, "dest": 105, "carrier": 16, "origin": 3}
"""Entities of each view; 0: one for each entity row."""


def entity_rows(rows: int, days: int) -> pd.DataFrame:
    """As many flights as rows, spread over the days, with the keys of all views; in random order."""
    rng = np.random.default_rng(1)
    day = np.sort(rng.integers(0, days, rows))
    frame = pd.DataFrame({f"{view}_id": rng.integers(0, max(n, 1), rows) for view, n in VIEWS.items()})
    frame["flight_id"] = np.arange(rows)
    frame["event_timestamp"] = pd.Series(START + pd.to_timedelta(day, unit="D")).astype("datetime64[us, UTC]")
    return frame.sample(frac=1.0, random_state=1, ignore_index=True)


def write_views(folder: Path, entities: pd.DataFrame, days: int) -> None:
    """One Parquet file a view: a row for each entity and day, features normal with some missing."""
    rng = np.random.default_rng(2)
    for view, n in VIEWS.items():
        if n:
            keys = np.tile(np.arange(n), days)
            at = START + pd.to_timedelta(np.repeat(np.arange(days), n), unit="D")
        else:
            keys, at = entities[f"{view}_id"].to_numpy(), entities["event_timestamp"]
        values = {f"{view}_{i}": rng.normal(size=len(keys)) for i in range(FEATURES)}
        missing = {name: np.where(rng.random(len(keys)) < 0.05, np.nan, column) for name, column in values.items()}
        frame = pd.DataFrame({f"{view}_id": keys, **missing, "event_timestamp": at})
        frame = frame.astype({"event_timestamp": "datetime64[us, UTC]"})
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / f"{view}.parquet")


def open_store(folder: Path, offline_store: str) -> Any:
    """A Feast store on the folder's registry with that offline store."""
    from feast import FeatureStore, RepoConfig

    config = RepoConfig(
        project="benchmark",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store=None,
        offline_store={"type": offline_store},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    return FeatureStore(config=config)


def definitions(folder: Path) -> list[Any]:
    """An entity and a feature view for each of VIEWS."""
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64, Int64

    objects: list[Any] = []
    for view in VIEWS:
        entity = Entity(name=view, join_keys=[f"{view}_id"], value_type=ValueType.INT64)
        fields = [Field(name=f"{view}_id", dtype=Int64)]
        fields += [Field(name=f"{view}_{i}", dtype=Float64) for i in range(FEATURES)]
        source = FileSource(name=view, path=str(folder / f"{view}.parquet"), timestamp_field="event_timestamp")
        ttl = timedelta(days=2)
        objects += [entity, FeatureView(name=f"{view}_view", entities=[entity], ttl=ttl, schema=fields, source=source)]
    return objects


def timed(store: Any, entities: pd.DataFrame) -> tuple[float, float, pd.DataFrame]:
    """Seconds and processor seconds of one retrieval of all features, and its rows."""
    names = [f"{view}_view:{view}_{i}" for view in VIEWS for i in range(FEATURES)]
    started, worked = time.perf_counter(), time.process_time()
    table = store.get_historical_features(entity_df=entities, features=names).to_arrow()
    seconds = time.perf_counter() - started, time.process_time() - worked
    return *seconds, table.to_pandas().sort_values("flight_id", ignore_index=True)


def main() -> int:
    """Measure, compare, print; 1 if rows differ or the ratio is below the least one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=337_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--least-ratio", type=float, default=5.0)
    given = parser.parse_args()
    forget_ambient_stack(os.environ)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        entities = entity_rows(given.rows, given.days)
        write_views(folder, entities, given.days)
        ours = open_store(folder, "nightshift.io.feast.asof_offline_store.AsofOfflineStore")
        ours.apply(definitions(folder))
        feasts = open_store(folder, "duckdb")
        for store in (ours, feasts):
            timed(store, entities.head(100))  # imports and connections, once
        runs = [(timed(ours, entities), timed(feasts, entities)) for _ in range(2)]
    # The quicker of each: on a busy machine the other one measures the neighbours.
    ours_took, feasts_took = ([min(run[i][n] for run in runs) for n in range(2)] for i in range(2))
    our_rows, feast_rows = (runs[0][i][2] for i in range(2))
    same = our_rows.drop(columns="event_timestamp").equals(feast_rows[our_rows.columns].drop(columns="event_timestamp"))
    ratio = feasts_took[0] / ours_took[0]
    print(f"{given.rows:,} rows x {len(VIEWS)} views x {FEATURES} features, local Parquet")
    print(f"  Feast's DuckDB store  {feasts_took[0]:6.2f} s  ({feasts_took[1]:.2f} s of processor time)")
    print(f"  AsofOfflineStore      {ours_took[0]:6.2f} s  ({ours_took[1]:.2f} s of processor time)")
    print(f"  ratio                 {ratio:6.1f} x  (wanted: at least {given.least_ratio:g})")
    print(f"  same rows             {'yes' if same else 'NO'}")
    return 0 if same and ratio >= given.least_ratio else 1


if __name__ == "__main__":
    sys.exit(main())
