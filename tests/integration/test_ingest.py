"""From landed files to a curated partition, on real nights and on every way a delivery can be wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import date, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flight_delay import replay
from flight_delay.use_case import USE_CASE
from nightshift.artifact import ArtifactRef, sha256_hex
from nightshift.errors import DataContractError, MalformedFile, PartitionNotReady, SchemaChanged
from nightshift.io.artifact_store import ArtifactStore
from nightshift.services.curated import load_feeds
from nightshift.settings import Settings
from nightshift.steps.context import StepContext
from nightshift.steps.ingest import land, profile, publish, validate
from support.errors import raises_code

NIGHT = date(2013, 2, 12)
"""Wind at 1,048 mph in Newark."""
LANDING = "landing/flight_delay"


@pytest.fixture
def deliver(store: ArtifactStore) -> Callable[..., None]:
    """Land the replayed files of nights; snapshots come with the first night of all."""

    def put(*nights: date) -> None:
        for night in (replay.FIRST, *nights):
            for feed, dt, name, body in replay.deliveries(night):
                store.put(f"{LANDING}/{feed}/dt={dt}/{name}", body)

    return put


@pytest.fixture
def ingest(settings: Settings, store: ArtifactStore) -> Callable[..., dict[str, ArtifactRef]]:
    """The four steps of a night; refs by step."""

    def run(night: date) -> dict[str, ArtifactRef]:
        landed = land.run(StepContext(USE_CASE, settings, store, night))
        profiled = profile.run(StepContext(USE_CASE, settings, store, night), landed=landed)
        validated = validate.run(StepContext(USE_CASE, settings, store, night), landed=landed)
        published = publish.run(StepContext(USE_CASE, settings, store, night), validated=validated, profiled=profiled)
        return {"land": landed, "profile": profiled, "validate": validated, "publish": published}

    return run


Deliver = Callable[..., None]
Ingest = Callable[..., dict[str, ArtifactRef]]


def landed_file(store: ArtifactStore, feed: str, night: date = NIGHT, name: str = "") -> bytes:
    body = store.get(f"{LANDING}/{feed}/dt={night}/{name or feed + '.csv'}")
    assert body is not None
    return body


def put(store: ArtifactStore, feed: str, body: bytes, name: str = "", night: date = NIGHT) -> None:
    store.put(f"{LANDING}/{feed}/dt={night}/{name or feed + '.csv'}", body)


def metrics(store: ArtifactStore, ref: ArtifactRef) -> dict[str, object]:
    return dict(store.manifest(ref).metrics)


def test_a_real_night_is_published_and_its_dirt_caught_by_name(
    store: ArtifactStore, deliver: Deliver, ingest: Ingest
) -> None:
    deliver(NIGHT)
    refs = ingest(NIGHT)
    found = metrics(store, refs["publish"])
    assert found["rows"] == {"schedule": 918, "flights": 904, "weather": 71, "planes": 3322, "airlines": 16}
    assert found["quarantined"] == {"impossible wind speed": 1}
    assert found["warnings"] == {
        "fewer than 20 seats: probably a private plane, not the airline's plane of that fleet number": 40,
        "malformed tail number, set to null": 3,
        "plane is not in planes": 143,
    }
    [uri] = found["quarantine_uris"].values()  # type: ignore[attr-defined]
    [row] = pq.read_table(pa.BufferReader(store.get(store.key(uri)))).to_pylist()
    assert row["reasons"] == ["impossible wind speed"]
    assert json.loads(row["row"])["wind_speed_mph"] == pytest.approx(1048.36, abs=0.01)
    line = landed_file(store, "weather").splitlines()[row["landed_row"]]
    assert line.startswith(b"EWR,2013,2,12,3,")
    assert b"1048" in line
    flights = store.read_table(refs["publish"], "flights.parquet")
    assert flights.column_names == [c.name for c in USE_CASE.feed("flights").curated] + ["landed_uri", "landed_row"]
    decision = store.decision("flight_delay", "publish", NIGHT)
    assert decision is not None
    assert (decision.status, decision.ref) == ("published", refs["publish"])


def test_the_hour_at_13_degrees_is_caught(store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    night = date(2013, 5, 8)
    deliver(night)
    found = metrics(store, ingest(night)["publish"])
    assert found["quarantined"] == {"temperature jumps and comes back within an hour": 1}


def test_no_flight_of_the_schedule_is_lost(store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    nights = [date(2013, 3, 8), date(2013, 3, 9), date(2013, 7, 26)]  # daylight saving; a flight of 17 miles
    deliver(*nights)
    for night in nights:
        delivered = landed_file(store, "schedule", night).count(b"\n") - 1
        assert store.read_table(ingest(night)["publish"], "schedule.parquet").num_rows == delivered


def test_again_is_the_same(store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    deliver(NIGHT)
    first = ingest(NIGHT)
    before = {found.key for found in store.list("")}
    assert ingest(NIGHT) == first
    assert {found.key for found in store.list("")} == before


def test_manifests_lead_back_to_the_landed_bytes(store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    deliver(NIGHT)
    refs = ingest(NIGHT)
    published = store.manifest(refs["publish"])
    assert published.inputs == {step: [refs[name]] for step, name in
                                (("landed", "land"), ("profiled", "profile"), ("validated", "validate"))}  # fmt: skip
    inputs = store.manifest(refs["land"]).inputs
    for refs_of_feed in inputs.values():
        for ref in refs_of_feed:
            assert ref.kind == "landed_file"
            assert sha256_hex(store.get(store.key(ref.uri)) or b"") == ref.sha256
    assert [ref.uri.rsplit("/", 2)[1:] for ref in inputs["planes"]] == [["dt=2013-01-01", "planes.csv"]]


def test_results_data_docs_and_profile_are_kept(store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    deliver(NIGHT)
    refs = ingest(NIGHT)
    paths = {file.path for file in store.manifest(refs["validate"]).files}
    feeds = [feed.name for feed in USE_CASE.feeds]
    assert {f"results/{feed}.json" for feed in feeds} <= paths
    assert {"data_docs/index.html", *(f"data_docs/{feed}.html" for feed in feeds)} <= paths
    result = json.loads(store.read(refs["validate"], "results/weather.json"))
    assert result["statistics"]["unsuccessful_expectations"] == 1
    weather = json.loads(store.read(refs["profile"], "profile.json"))["weather"]["columns"]
    assert weather["wind_speed_mph"]["max"] > 1000
    assert metrics(store, refs["profile"])["weather"]["rows"] == 72  # type: ignore[index]


def replace(old: bytes, new: bytes, count: int = -1) -> Callable[[bytes], bytes]:
    return lambda body: body.replace(old, new, count)


WRONG: dict[str, tuple[str, Callable[[bytes], bytes], type[DataContractError], str, str]] = {
    "empty": ("flights", lambda body: b"", MalformedFile, "NS-LAND-006", "0 bytes"),
    "header only": ("schedule", lambda body: body.splitlines(keepends=True)[0], MalformedFile, "NS-LAND-019", ""),
    "half-written": ("weather", lambda body: body[:2000], MalformedFile, "NS-LAND-007", ""),
    "other delimiter": ("flights", replace(b",", b";"), MalformedFile, "NS-LAND-010", "';'"),
    "missing column": (
        "weather",
        lambda body: b"".join(line.rsplit(b",", 1)[0] + b"\n" for line in body.splitlines()),
        SchemaChanged,
        "NS-LAND-018",
        "'time_hour' is missing",
    ),
    "extra column": (
        "weather",
        lambda body: b"".join(line + (b",uv\n" if n == 0 else b",3\n") for n, line in enumerate(body.splitlines())),
        SchemaChanged,
        "NS-LAND-018",
        "'uv' is not declared",
    ),
    "renamed column": (
        "schedule",
        replace(b"distance", b"miles", 1),
        SchemaChanged,
        "NS-LAND-018",
        "renamed to 'miles'",
    ),
    "retyped column": ("flights", replace(b"T", b" "), SchemaChanged, "NS-LAND-013", "'time_hour'"),
    "too few rows": (
        "schedule",
        lambda body: b"".join(body.splitlines(keepends=True)[:200]),
        DataContractError,
        "NS-CURATE-011",
        "not that of a day at three airports",
    ),
    "yesterday's file": (
        "schedule",
        replace(b"2013,2,13,", b"2013,2,12,"),
        DataContractError,
        "NS-CURATE-011",
        "not that of the next day",
    ),
    "another time zone": (
        "schedule",
        replace(b":00:00Z", b":00:00+01:00"),
        DataContractError,
        "NS-CURATE-011",
        "time zone changed",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_partition_is_rejected_until_delivered_again(
    name: str, store: ArtifactStore, deliver: Deliver, ingest: Ingest
) -> None:
    feed, spoil, error, code, named = WRONG[name]
    if name == "retyped column":
        spoil = lambda body: body.replace(b"Z\n", b"\n")  # noqa: E731 - the header has a T of its own
    deliver(NIGHT)
    good = landed_file(store, feed)
    put(store, feed, spoil(good))
    with raises_code(error, code, feed, named) as raised:
        ingest(NIGHT)
    decision = store.decision("flight_delay", "publish", NIGHT)
    assert decision is not None
    assert (decision.status, decision.reason) == ("rejected", str(raised.value))
    if error is DataContractError:
        assert decision.ref is not None
        assert json.loads(store.read(decision.ref, f"results/{feed}.json"))["success"] is False
    else:
        assert f"{LANDING}/{feed}/dt={NIGHT}/" in decision.reason
    put(store, feed, good)
    ref = ingest(NIGHT)["publish"]
    assert store.current("flight_delay", "publish", NIGHT) == ref


@pytest.mark.parametrize("feed", ["weather", "planes"])
def test_a_missing_delivery_is_waited_for(feed: str, store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    for name, dt, file_name, body in [*replay.deliveries(replay.FIRST), *replay.deliveries(NIGHT)]:
        if name != feed:
            store.put(f"{LANDING}/{name}/dt={dt}/{file_name}", body)
    with raises_code(PartitionNotReady, "NS-LAND-001", f"/{feed}/dt=2013-02-12/"):
        ingest(NIGHT)
    assert store.decision("flight_delay", "publish", NIGHT) is None


def test_a_file_delivered_twice_is_read_once(store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    deliver(NIGHT)
    once = ingest(NIGHT)
    put(store, "schedule", landed_file(store, "schedule"), "schedule_again.csv")
    put(store, "schedule", b"", "_SUCCESS")
    twice = ingest(NIGHT)
    assert store.read(twice["publish"], "schedule.parquet") == store.read(once["publish"], "schedule.parquet")
    [(again, same)] = metrics(store, twice["land"])["schedule"]["repeated_files"].items()  # type: ignore[index]
    assert (again.rsplit("/", 1)[1], same.rsplit("/", 1)[1]) == ("schedule_again.csv", "schedule.csv")
    assert len(store.manifest(twice["land"]).inputs["schedule"]) == 2


def test_what_a_later_file_says_counts_and_nothing_is_lost(
    store: ArtifactStore, deliver: Deliver, ingest: Ingest
) -> None:
    deliver(NIGHT)
    header, first, second, *_ = landed_file(store, "weather").splitlines(keepends=True)
    changed = first.replace(b"1048.36058", b"10.35702")
    put(store, "weather", header + changed + second, "weather_2.csv")
    refs = ingest(NIGHT)
    found = metrics(store, refs["publish"])
    assert found["exact_duplicates"]["weather"] == 1  # type: ignore[index]
    landed = metrics(store, refs["land"])["weather"]
    assert landed["bytes"] == len(landed_file(store, "weather")) + len(header + changed + second)  # type: ignore[index]
    # The wind at 1,048 mph is gone with the row that said so.
    assert found["quarantined"] == {"another row with this key was delivered later": 1}
    weather = store.read_table(refs["publish"], "weather.parquet").to_pandas()
    assert len(weather) == 72
    assert not weather.duplicated(["origin", "observed_at"]).any()


def test_single_bad_rows_are_quarantined_with_all_reasons(
    store: ArtifactStore, deliver: Deliver, ingest: Ingest
) -> None:
    deliver(NIGHT)
    table = pd.read_csv(io.BytesIO(landed_file(store, "flights")), dtype=str, keep_default_na=False)
    table.loc[0, "arr_delay"] = "late"
    table.loc[1, ["origin", "dest"]] = ["TEB", "somewhere"]
    table.loc[2, "minute"] = "61"
    table.loc[3, "carrier"] = "NA"
    put(store, "flights", table.to_csv(index=False).encode())
    refs = ingest(NIGHT)
    [uri] = [u for u in metrics(store, refs["publish"])["quarantine_uris"].values() if "/flights/" in u]  # type: ignore[attr-defined]
    rows = pq.read_table(pa.BufferReader(store.get(store.key(uri)))).to_pylist()
    assert {(row["landed_row"], row["step"]): row["reasons"] for row in rows} == {
        (1, "land"): ["arr_delay is not float64"],
        (2, "validate"): ["unknown origin", "no FAA code of an airport"],
        (3, "validate"): ["local time of departure and UTC hour disagree"],
        (4, "land"): ["carrier is missing"],
    }
    assert store.read_table(refs["publish"], "flights.parquet").num_rows == len(table) + corrections(store, NIGHT) - 4


def corrections(store: ArtifactStore, night: date) -> int:
    body = store.get(f"{LANDING}/flights/dt={night}/corrections.csv")
    return body.count(b"\n") - 1 if body else 0


def test_what_cannot_have_been_known_is_quarantined(store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    deliver(NIGHT, NIGHT + timedelta(days=1))
    tomorrow = landed_file(store, "weather", NIGHT + timedelta(days=1)).splitlines(keepends=True)
    put(store, "weather", b"".join(tomorrow[:4]), "weather_2.csv")
    put(store, "flights", landed_file(store, "flights", NIGHT + timedelta(days=1), "corrections.csv"), "too_early.csv")
    found = metrics(store, ingest(NIGHT)["publish"])
    assert found["quarantined"] == {
        "arrived after the cutoff, so it cannot have been known": corrections(store, NIGHT + timedelta(days=1)),
        "impossible wind speed": 1,
        "observed after the cutoff, so it cannot have been known": 3,
    }


def test_late_correction_keeps_the_earlier_delivery(store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    nights = [NIGHT, NIGHT + timedelta(days=1)]
    deliver(*nights)
    first = ingest(nights[0])
    ingest(nights[1])
    assert store.current("flight_delay", "publish", nights[0]) == first["publish"]
    loaded = load_feeds(store, USE_CASE, ["flights"], *nights)["flights"].table.to_pandas()
    late = loaded[loaded["delivered_on"] > loaded["flight_date"]]
    of_first_night = late[late["flight_date"] == nights[0]]
    assert len(of_first_night) == corrections(store, nights[1]) > 0
    schedule_of_first_night = landed_file(store, "flights", nights[0]).count(b"\n") - 1 + len(of_first_night)
    assert (loaded["flight_date"] == nights[0]).sum() == schedule_of_first_night


def test_parquet_is_as_good_as_csv(store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    deliver(NIGHT)
    from_csv = ingest(NIGHT)["publish"]
    frame = pd.read_csv(
        io.BytesIO(landed_file(store, "weather")), parse_dates=["time_hour"], float_precision="round_trip"
    )
    sink = io.BytesIO()
    frame.to_parquet(sink)
    put(store, "weather", sink.getvalue(), "weather.parquet")
    put(store, "weather", landed_file(store, "weather").splitlines(keepends=True)[0])
    from_parquet = ingest(NIGHT)["publish"]
    columns = [column.name for column in USE_CASE.feed("weather").curated]
    first, second = (store.read_table(ref, "weather.parquet").select(columns) for ref in (from_csv, from_parquet))
    assert first.equals(second)


def test_the_newest_snapshot_up_to_the_night_counts(store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    deliver(NIGHT)
    header, *planes = landed_file(store, "planes", replay.FIRST).splitlines(keepends=True)
    put(store, "planes", header + b"".join(planes[:500]), night=NIGHT - timedelta(days=1))
    put(store, "planes", header + b"".join(planes[:600]), night=NIGHT + timedelta(days=1))
    for stray in ("dt=latest", "dt=20130101", "old"):
        store.put(f"landing/{USE_CASE.name}/planes/{stray}/planes.csv", b"nothing of ours")
    assert store.read_table(ingest(NIGHT)["publish"], "planes.parquet").num_rows == 500


def test_range_leaves_out_rejected_and_names_missing(store: ArtifactStore, deliver: Deliver, ingest: Ingest) -> None:
    nights = [replay.FIRST + timedelta(days=n) for n in range(3)]
    deliver(*nights)
    put(store, "weather", b"", night=nights[1])
    refs = [ingest(nights[0])["publish"]]
    with raises_code(PartitionNotReady, "NS-CURATE-012", "2013-01-02, 2013-01-03"):
        load_feeds(store, USE_CASE, ["weather"], nights[0], nights[2])
    with raises_code(MalformedFile, "NS-LAND-006", "dt=2013-01-02"):
        ingest(nights[1])
    refs.append(ingest(nights[2])["publish"])
    loaded = load_feeds(store, USE_CASE, ["weather", "planes"], nights[0] - timedelta(days=60), nights[2])
    weather, planes = loaded["weather"], loaded["planes"]
    assert weather.refs == tuple(refs)
    assert set(weather.missing) == {nights[1]}
    assert "NS-LAND-006" in weather.missing[nights[1]]
    assert weather.table["delivered_on"].unique().to_pylist() == [nights[0], nights[2]]
    assert (planes.refs, planes.table.num_rows) == ((refs[1],), 3322)


def test_files_are_read_once_per_process(
    store: ArtifactStore, deliver: Deliver, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver()
    ingest(replay.FIRST)
    first = load_feeds(store, USE_CASE, ["weather"], replay.FIRST, replay.FIRST)
    monkeypatch.setattr(store, "read_table", lambda *_: pytest.fail("read again"))
    again = load_feeds(store, USE_CASE, ["weather"], replay.FIRST, replay.FIRST)
    assert again["weather"].table.equals(first["weather"].table)
