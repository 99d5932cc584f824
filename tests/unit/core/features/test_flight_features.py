"""The features of flight_delay, computed from made-up deliveries with known results."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flight_delay.features import FEATURES, SCORING_SPINE, TRAINING_SPINE
from nightshift.core.features.feature_computation import compute_features, compute_spine, without_monitored
from nightshift.declare.discovery import load_use_case
from nightshift.errors import FeatureContractError
from support.curated_flights import arrived, as_feeds, deliveries, flight, table
from support.errors import raises_code

USE_CASE = load_use_case("flight_delay")
DAY = date(2013, 5, 20)
CUTOFF = USE_CASE.cutoff(DAY)


def on(delivered: date, feed: str, *rows: dict[str, Any]) -> pa.Table:
    return table(feed, list(rows), delivered)


def feeds(**tables: pa.Table) -> dict[str, pa.Table]:
    return {feed: tables.get(feed, on(DAY, feed)) for feed in ("schedule", "flights", "weather", "planes", "airlines")}


def compute(**tables: pa.Table) -> dict[str, pa.Table]:
    return compute_features(USE_CASE, feeds(**tables), DAY)


def one(rows: pa.Table, **where: Any) -> dict[str, Any]:
    found = [row for row in rows.to_pylist() if all(row[name] == value for name, value in where.items())]
    assert len(found) == 1
    return found[0]


def tomorrow(*rows: dict[str, Any]) -> pa.Table:
    return on(DAY, "schedule", *(rows or (flight(DAY + timedelta(days=1)),)))


def test_every_declared_feature_is_computed_as_float64() -> None:
    computed = compute(schedule=tomorrow())
    types = {field.name: field.type for rows in computed.values() for field in rows.schema}
    assert [name for name in FEATURES.numeric if types.get(name) != pa.float64()] == []
    keys = {key for view in FEATURES.tables for key in view.join_keys}
    monitored = {name for view in FEATURES.tables for name in view.monitored}
    assert {types[name] for name in monitored} == {pa.float64()}
    assert set(types) == {*FEATURES.numeric, *monitored, *keys, "event_timestamp"}
    assert set(FEATURES.numeric) & monitored == set()
    in_views = without_monitored(USE_CASE, computed)
    assert {name for rows in in_views.values() for name in rows.column_names} == {*types} - monitored
    stamps = {stamp for rows in computed.values() for stamp in rows["event_timestamp"].to_pylist()}
    assert stamps == {CUTOFF}


@pytest.mark.parametrize(
    ("tonight", "before", "hours"),
    [(540, 540, 0), (600, 540, 1), (480, 540, -1), (555, 540, 0), (20, 1400, 1), (1400, 20, -1), (840, 540, 5)],
)
def test_departures_are_compared_with_the_same_weekday_before(tonight: int, before: int, hours: int) -> None:
    day = DAY + timedelta(days=1)
    flown = [flight(day - timedelta(days=7), minute=before) | arrived(0)]
    # Other weekdays may have other times.
    flown += [flight(day - timedelta(days=1), minute=(before + 300) % 1440) | arrived(0)]
    computed = compute(schedule=tomorrow(flight(day, minute=tonight)), flights=on(DAY, "flights", *flown))
    assert one(computed["flight_schedule"])["departure_hours_later_than_last_week"] == hours


def test_nothing_known_is_null_and_not_a_guess() -> None:
    computed = compute(schedule=tomorrow())
    for view in ("carrier_delays", "route_delays", "origin_delays", "origin_weather"):
        row = computed[view].to_pylist()[0]
        assert {value for name, value in row.items() if name.endswith(("_rate_28d", "_mph", "_miles"))} == {None}


def test_small_samples_are_drawn_towards_the_overall_rate() -> None:
    late = [flight(DAY, "UA", n) | arrived(20) for n in range(4)]
    punctual = [flight(DAY, "DL", n, route=1) | arrived(0) for n in range(12)]
    rows = compute(schedule=tomorrow(), flights=on(DAY, "flights", *late, *punctual))["carrier_delays"]
    row = one(rows, carrier="UA")
    assert row["carrier_late_rate_28d"] == pytest.approx((4 + 10 * 4 / 16) / 14)
    assert row["carrier_relative_late_rate_28d"] == pytest.approx((4 + 10 * 4 / 16) / 14 - 4 / 16)


def test_windows_end_where_they_say() -> None:
    def rate(age: int) -> float | None:
        day = DAY - timedelta(days=age)
        history = on(day, "flights", flight(day) | arrived(60))
        row = compute(schedule=tomorrow(), flights=history)["carrier_delays"].to_pylist()[0]
        return row["carrier_relative_late_rate_7d"]

    assert rate(6) == 0.0
    assert rate(7) is None


def test_fifteen_minutes_are_late_and_a_cancellation_is_neither() -> None:
    outcomes = [
        flight(DAY, number=1) | arrived(15),
        flight(DAY, number=2) | arrived(14),
        flight(DAY, number=3) | {"status": "cancelled"},
    ]
    row = compute(schedule=tomorrow(), flights=on(DAY, "flights", *outcomes))["carrier_delays"].to_pylist()[0]
    assert row["carrier_late_rate_28d"] == pytest.approx(0.5)
    assert row["carrier_relative_cancellation_rate_28d"] == 0.0


def test_the_newest_delivery_of_a_flight_counts() -> None:
    early = DAY - timedelta(days=1)
    history = pa.concat_tables(
        [
            on(early, "flights", flight(early) | {"status": "cancelled"}),
            on(DAY, "flights", flight(early) | arrived(60)),
        ]
    )
    row = compute(schedule=tomorrow(), flights=history)["carrier_delays"].to_pylist()[0]
    assert row["carrier_late_rate_28d"] == 1.0


def test_the_typical_plane_ignores_false_registry_entries() -> None:
    planes = on(
        DAY,
        "planes",
        {"tailnum": "N1", "seats": 150, "year_built": 2003},
        {"tailnum": "N2", "seats": 4, "year_built": 1956},
    )
    history = on(DAY, "flights", *(flight(DAY, number=1) | arrived(0, tail) for tail in ("N1",)))
    history = pa.concat_tables(
        [history, on(DAY - timedelta(days=1), "flights", flight(DAY - timedelta(days=1)) | arrived(0, "N2"))]
    )
    row = compute(schedule=tomorrow(), flights=history, planes=planes)["plane"].to_pylist()[0]
    assert (row["typical_seats"], row["typical_plane_age_years"]) == (150.0, 10.0)
    assert (row["times_flown_60d"], row["planes_per_flight_60d"]) == (2.0, 1.0)


def test_weather_is_the_newest_before_the_cutoff() -> None:
    def observed(hours: float, **values: float) -> dict[str, Any]:
        return {"origin": "EWR", "observed_at": CUTOFF - timedelta(hours=hours)} | values

    rows = on(
        DAY,
        "weather",
        observed(23, wind_speed_mph=30.0, pressure_millibars=1020.0, precipitation_inches=0.5),
        observed(1, wind_speed_mph=10.0, wind_direction_degrees=90.0, pressure_millibars=1010.0),
        observed(2, wind_speed_mph=12.0, precipitation_inches=0.25),
        observed(25, wind_speed_mph=99.0, precipitation_inches=9.0),
        observed(0, wind_speed_mph=77.0),
    )
    row = compute(schedule=tomorrow(), weather=rows)["origin_weather"].to_pylist()[0]
    assert row["wind_speed_mph"] == 10.0
    assert row["wind_from_east_mph"] == pytest.approx(10.0)
    assert row["wind_from_north_mph"] == pytest.approx(0.0, abs=1e-9)
    assert row["wind_speed_24h_max_mph"] == 30.0
    assert row["precipitation_24h_inches"] == 0.75
    assert row["precipitation_6h_inches"] == 0.25
    assert row["pressure_change_24h_millibars"] == -10.0


@pytest.mark.parametrize(
    ("partition", "days"),
    [
        (date(2013, 7, 2), -1.0),
        (date(2013, 7, 3), 0.0),
        (date(2013, 7, 4), 1.0),
        (date(2013, 11, 26), -1.0),  # Thanksgiving on 28 November
        (date(2013, 5, 26), 0.0),  # Memorial Day on 27 May
        (date(2013, 1, 20), 0.0),  # Martin Luther King Day on 21 January
        (date(2013, 7, 24), 8.0),
        (date(2013, 8, 14), -8.0),
        (date(2012, 12, 29), -2.0),  # towards the next year
        (date(2024, 11, 27), 0.0),  # Thanksgiving of another year
    ],
)
def test_days_after_the_nearest_holiday(partition: date, days: float) -> None:
    tables = feeds(schedule=on(partition, "schedule", flight(partition + timedelta(days=1))))
    tables = {feed: rows if feed == "schedule" else rows.slice(0, 0) for feed, rows in tables.items()}
    computed = compute_features(USE_CASE, tables, partition)
    assert computed["flight_schedule"]["days_after_holiday"].to_pylist() == [days]


def test_congestion_counts_departures_around_the_flight() -> None:
    day = DAY + timedelta(days=1)
    schedule = tomorrow(
        flight(day, "UA", 1, 600),
        flight(day, "UA", 2, 630),
        flight(day, "DL", 3, 631),
        flight(day, "DL", 4, 661),
        flight(day, "DL", 5, 600, route=1),
    )
    row = one(compute(schedule=schedule)["flight_schedule"], flight_id=f"{day}|UA|1|EWR")
    assert row["origin_departures_30min"] == 2.0
    assert row["origin_departures_60min"] == 3.0
    assert row["carrier_share_60min"] == pytest.approx(2 / 3)
    assert row["origin_departures_until_now"] == 1.0
    assert row["origin_flights"] == 4.0


def test_head_wind_comes_from_evening_flights_to_the_west() -> None:
    def flown(age: int, minutes: float, *, minute: int = 1020, route: int = 0) -> pa.Table:
        day = DAY - timedelta(days=age)
        return on(
            day, "flights", flight(day, "UA", 100 + minute, minute, route) | arrived(0) | {"air_time_minutes": minutes}
        )

    def head_wind(*history: pa.Table) -> list[float | None]:
        row = compute(schedule=tomorrow(), flights=pa.concat_tables(history))["origin_level"].to_pylist()[0]
        return [row["level_head_wind_1d_percent"], row["level_head_wind_change_percent"]]

    evenings = [flown(0, 220.0), flown(1, 200.0), flown(9, 180.0)]
    assert head_wind(*evenings) == pytest.approx([10.0, 5.0])
    # Neither the morning, nor flights that keep the clock of New York, nor evenings of 28 days ago tell.
    others = [flown(0, 300.0, minute=600), flown(0, 300.0, route=3), flown(28, 300.0)]
    assert head_wind(*evenings, *others) == pytest.approx([10.0, 5.0])
    assert head_wind(*evenings[1:]) == [None, None]
    assert head_wind(*others) == [None, None]
    # Bounded: a route that was flown once at half its usual time is an error of the record.
    assert head_wind(flown(0, 40.0), *evenings[1:])[0] == pytest.approx(-40.0)


HISTORY = deliveries(DAY - timedelta(days=20), 26)
TABLES = [view.name for view in FEATURES.tables]


def _after(feed: str, rows: pa.Table) -> pa.Array:
    """Which rows became known after the cutoff of DAY."""
    late = pc.greater(rows["delivered_on"], pa.scalar(DAY))
    if feed == "weather":
        late = pc.or_(late, pc.greater_equal(rows["observed_at"], pa.scalar(CUTOFF, rows["observed_at"].type)))
    return late


def _scrambled(feed: str, rows: pa.Table) -> pa.Table:
    """The same rows with every number of those known after the cutoff changed."""
    late = _after(feed, rows)
    for i, field in enumerate(rows.schema):
        if pa.types.is_floating(field.type):
            rows = rows.set_column(i, field.name, pc.if_else(late, pc.add(rows[field.name], 1000.0), rows[field.name]))
    return rows


def test_what_became_known_after_the_cutoff_changes_no_bit() -> None:
    last = max(HISTORY)
    with_future = as_feeds(HISTORY, last, 60)
    early = {"origin": "EWR", "observed_at": CUTOFF + timedelta(minutes=1), "wind_speed_mph": 500.0}
    with_future["weather"] = pa.concat_tables([with_future["weather"], on(DAY, "weather", early)])
    assert all(pc.any(_after(feed, with_future[feed])).as_py() for feed in ("schedule", "flights", "weather"))

    def run(tables: dict[str, pa.Table]) -> tuple[dict[str, pa.Table], pa.Table, pa.Table]:
        spines = [compute_spine(USE_CASE, sql, tables, DAY) for sql in (SCORING_SPINE, TRAINING_SPINE)]
        return compute_features(USE_CASE, tables, DAY), spines[0], spines[1]

    as_it_was = run(as_feeds(HISTORY, DAY, 60))
    assert as_it_was[1].num_rows == 24
    for tables in (with_future, {feed: _scrambled(feed, rows) for feed, rows in with_future.items()}):
        features, scoring, training = run(tables | {"planes": as_feeds(HISTORY, DAY, 60)["planes"]})
        assert scoring.equals(as_it_was[1])
        assert training.equals(as_it_was[2])
        for view in TABLES:
            assert features[view].equals(as_it_was[0][view]), view


def test_what_was_known_before_the_cutoff_does_change_features() -> None:
    before = as_feeds(HISTORY, DAY, 60)
    column = before["flights"].schema.get_field_index("arrival_delay_minutes")
    changed = before["flights"].set_column(
        column, "arrival_delay_minutes", pc.add(before["flights"]["arrival_delay_minutes"], 1000.0)
    )
    left = compute_features(USE_CASE, before, DAY)
    right = compute_features(USE_CASE, before | {"flights": changed}, DAY)
    assert not left["carrier_delays"].equals(right["carrier_delays"])


def test_training_rows_have_a_label_and_the_partition_before() -> None:
    tables = as_feeds(HISTORY, DAY, 60)
    rows = compute_spine(USE_CASE, TRAINING_SPINE, tables, DAY)
    newest = one(rows, flight_id=f"{DAY}|AA|101|JFK")
    assert newest["partition"] == DAY - timedelta(days=1)
    assert newest["event_timestamp"] == USE_CASE.cutoff(DAY - timedelta(days=1))
    flown = HISTORY[DAY]["flights"].to_pylist()
    outcome = next(f for f in flown if f["flight"] == 101 and f["flight_date"] == DAY)
    assert newest["is_late"] == int(outcome["arrival_delay_minutes"] >= 15)
    assert set(rows["is_late"].to_pylist()) == {0, 1}
    # The flight still in the air at the cutoff has no label yet; its correction comes a day later.
    assert f"{DAY}|UA|100|EWR" not in rows["flight_id"].to_pylist()
    assert f"{DAY - timedelta(days=1)}|UA|100|EWR" in rows["flight_id"].to_pylist()


def test_sql_that_does_not_run_is_named(tmp_path: Any) -> None:
    broken = tmp_path / "broken.sql"
    broken.write_text("select nothing from nowhere", encoding="utf-8")
    with raises_code(FeatureContractError, "NS-FEATURE-007", "broken.sql"):
        compute_spine(USE_CASE, broken, feeds(), DAY)


def test_spine_with_two_rows_for_a_key_is_an_error() -> None:
    twice = tomorrow(flight(DAY + timedelta(days=1)), flight(DAY + timedelta(days=1)))
    with raises_code(FeatureContractError, "NS-FEATURE-006", "1 rows"):
        compute_spine(USE_CASE, SCORING_SPINE, feeds(schedule=twice), DAY)
