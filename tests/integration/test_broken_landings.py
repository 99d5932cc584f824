"""Broken landings through the steps of ingest: what was published stays, and a bad delivery is named."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flight_delay import replay
from flight_delay.use_case import USE_CASE
from nightshift.artifact import ArtifactRef
from nightshift.errors import MalformedFile, NightshiftError, PartitionNotReady
from nightshift.io import landing
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.landing import read_delivery
from nightshift.settings import Settings
from nightshift.steps.context import StepContext
from nightshift.steps.ingest import land, profile, publish, validate
from support.errors import raises_code

FIRST, SECOND = replay.FIRST, replay.FIRST + timedelta(days=1)
LANDING = "landing/flight_delay"


@pytest.fixture
def ingest(settings: Settings, store: ArtifactStore) -> Callable[[date], ArtifactRef]:
    """The steps of ingest; two partitions are delivered, and the first one is published."""

    def run(partition: date) -> ArtifactRef:
        context = StepContext(USE_CASE, settings, store, partition)
        landed = land.run(context)
        profiled, validated = profile.run(context, landed=landed), validate.run(context, landed=landed)
        return publish.run(context, validated=validated, profiled=profiled)

    for partition in (FIRST, SECOND):
        for feed, dt, name, body in replay.deliveries(partition):
            store.put(f"{LANDING}/{feed}/dt={dt}/{name}", body)
    run(FIRST)
    return run


Ingest = Callable[[date], ArtifactRef]


def frame(body: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(body), dtype=str, keep_default_na=False)


def times_ten(body: bytes) -> bytes:
    """Ten times the flights, under other numbers."""
    flights = frame(body)
    flights["flight"] = flights["flight"].astype(int) % 900
    more = [flights.assign(flight=(flights["flight"] + 900 * n).astype(str)) for n in range(10)]
    return pd.concat(more).to_csv(index=False).encode()


def swapped_airports(body: bytes) -> bytes:
    header, _, rows = body.partition(b"\n")
    names = header.decode().split(",")
    at = names.index("origin"), names.index("dest")
    names[at[0]], names[at[1]] = names[at[1]], names[at[0]]
    return ",".join(names).encode() + b"\n" + rows


def swollen(body: bytes) -> bytes:
    """Four megabytes that inflate to 2 TB."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 2_000_000]))
    sink = io.BytesIO()
    pq.write_table(pa.table({"carrier": text, "name": text}), sink)
    return sink.getvalue()


BROKEN: dict[str, tuple[str, str, Callable[[bytes], bytes], str]] = {
    "truncated": ("schedule", "schedule.csv", lambda body: body[:4000], "NS-LAND-007"),
    "UTF-16": ("weather", "weather.csv", lambda body: body.decode().encode("utf-16"), "NS-LAND-112"),
    "ten times the rows": ("schedule", "schedule.csv", times_ten, "NS-CURATE-011"),
    "swapped airports": ("schedule", "schedule.csv", swapped_airports, "NS-CURATE-011"),
    "another day": ("flights", "flights.csv", lambda body: body.replace(b"2013,1,2,", b"2013,1,1,"), "NS-CURATE-011"),
    "inflating Parquet": ("airlines", "airlines.parquet", swollen, "NS-LAND-113"),
    "control characters in a name": ("weather", "we\tat\x1bher.csv", lambda body: body, "NS-LAND-116"),
    "another direction in a name": ("weather", "weather\u202evsc.csv", lambda body: body, "NS-LAND-116"),
    "very long name": ("weather", f"{'w' * 200}.exe", lambda body: body, "NS-LAND-002"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_last_publication_is_untouched(name: str, store: ArtifactStore, ingest: Ingest) -> None:
    feed, file, spoil, code = BROKEN[name]
    published = {found.key: store.get(found.key) for found in store.list("flight_delay/ingest/publish/")}
    assert published
    day = FIRST if feed == "airlines" else SECOND
    good = store.get(f"{LANDING}/{feed}/dt={day}/{feed}.csv")
    assert good is not None
    store.put(f"{LANDING}/{feed}/dt={SECOND}/{file}", spoil(good))
    with raises_code(NightshiftError, code, feed):
        ingest(SECOND)
    decision = store.decision("flight_delay", "publish", SECOND)
    assert decision is not None
    assert decision.status == "rejected"
    assert decision.reason.startswith(code)
    assert decision.reason.isprintable()
    after = {found.key: store.get(found.key) for found in store.list("flight_delay/ingest/publish/")}
    assert {key: after[key] for key in published} == published


def test_delivery_beyond_the_limit_is_not_read(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, ingest: Ingest, tmp_path: Path
) -> None:
    """Its size is that of all its files together."""
    weather = USE_CASE.feed("weather")
    small = replace(weather, max_bytes=10_000)
    body = store.get(f"{LANDING}/weather/dt={SECOND}/weather.csv")
    assert body is not None
    assert len(body) < small.max_bytes
    store.put(f"{LANDING}/weather/dt={SECOND}/weather_2.csv", body[:-100] + b"\n")
    monkeypatch.setattr(store, "get", lambda key: pytest.fail(f"{key} is read"))
    monkeypatch.setattr(store, "download", lambda key, file, size: pytest.fail(f"{key} is read"))
    with raises_code(MalformedFile, "NS-LAND-113", "weather", "10000"):
        read_delivery(store, USE_CASE, small, SECOND, tmp_path)
    monkeypatch.setattr(landing, "MOST_FILES", 1)
    with raises_code(MalformedFile, "NS-LAND-117", "2 files"):
        read_delivery(store, USE_CASE, weather, SECOND, tmp_path)


def test_file_that_grows_after_it_was_listed_is_not_copied(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, ingest: Ingest, tmp_path: Path
) -> None:
    weather, key = USE_CASE.feed("weather"), f"{LANDING}/weather/dt={SECOND}/weather.csv"
    listed = landing.delivered_files(store, USE_CASE, weather, SECOND)
    monkeypatch.setattr(landing, "delivered_files", lambda *_: listed)
    store.put(key, b"x" * 1_000_000)
    with raises_code(PartitionNotReady, "NS-LAND-003", key):
        read_delivery(store, USE_CASE, weather, SECOND, tmp_path)
    assert list(tmp_path.iterdir()) == []
