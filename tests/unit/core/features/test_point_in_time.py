"""Point-in-time joins: order, ties, ttl, nulls."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.core.features.point_in_time import FeatureRows, newest_rows, point_in_time_join

MICROS = pa.timestamp("us", tz="UTC")
START = datetime(2020, 3, 8, tzinfo=UTC)

hours = st.integers(0, 30).map(lambda h: START + timedelta(hours=h))
keys = st.sampled_from(["a", "b", "c", None])
values = st.one_of(st.none(), st.floats(-5, 5), st.just(math.nan))
known = st.lists(st.tuples(keys, st.integers(0, 1), hours, values), max_size=25)
asked = st.lists(st.tuples(keys, st.integers(0, 1), hours), max_size=12)


def _view(rows: list[tuple], ttl: timedelta | None) -> FeatureRows:
    table = pa.table(
        {
            "key": pa.array([r[0] for r in rows], pa.string()),
            "half": pa.array([r[1] for r in rows], pa.int64()),
            "known": pa.array([r[2] for r in rows], MICROS),
            "value": pa.array([r[3] for r in rows], pa.float64()),
        }
    )
    return FeatureRows(table, {"key": "name", "half": "half"}, {"value": "feature"}, "known", ttl=ttl)


def _entities(rows: list[tuple]) -> pa.Table:
    return pa.table(
        {
            "half": pa.array([r[1] for r in rows], pa.int32()),
            "name": pa.array([r[0] for r in rows], pa.string()),
            "asked": pa.array([r[2] for r in rows], pa.timestamp("ns", tz="Europe/Vienna")),
        }
    )


def _by_hand(rows: list[tuple], entity: tuple, ttl: timedelta | None) -> float | None:
    newest = None
    for key, half, at, value in rows:
        usable = key is not None and (key, half) == entity[:2] and at <= entity[2]
        if usable and (newest is None or at >= newest[0]):
            newest = (at, value)
    if newest is None or (ttl is not None and entity[2] - newest[0] > ttl):
        return None
    return newest[1]


def _same(left: float | None, right: float | None) -> bool:
    return left == right or (left is not None and right is not None and math.isnan(left) and math.isnan(right))


@settings(max_examples=80, deadline=None)
@given(known, asked, st.sampled_from([None, timedelta(0), timedelta(hours=3), timedelta(days=4)]))
def test_each_row_gets_the_newest_value_known_then(rows: list, wanted: list, ttl: timedelta | None) -> None:
    entities = _entities(wanted)
    joined = point_in_time_join(entities, "asked", [_view(rows, ttl)])
    expected = [_by_hand(rows, entity, ttl) for entity in wanted]
    assert all(_same(a, b) for a, b in zip(joined["feature"].to_pylist(), expected, strict=True))
    assert joined.select(entities.column_names).equals(entities)


@settings(max_examples=60, deadline=None)
@given(known)
def test_newest_rows_keep_one_row_per_key_in_order(rows: list) -> None:
    view = _view(rows, None)
    kept = newest_rows(view.table, ["key", "half"], "known").to_pylist()
    last = {}
    for position, row in enumerate(rows):
        if row[:2] not in last or row[2] >= last[row[:2]][1]:
            last[row[:2]] = (position, row[2])
    expected = [view.table.slice(position, 1).to_pylist()[0] for position, _ in sorted(last.values())]
    assert len(kept) == len(expected)
    assert all(k["known"] == e["known"] and _same(k["value"], e["value"]) for k, e in zip(kept, expected, strict=True))


def test_ttl_is_inclusive() -> None:
    ttl = timedelta(hours=2)
    view = _view([("a", 0, START, 1.0)], ttl)
    at = [("a", 0, START + ttl), ("a", 0, START + ttl + timedelta(microseconds=1)), ("a", 0, START)]
    assert point_in_time_join(_entities(at), "asked", [view])["feature"].to_pylist() == [1.0, None, 1.0]


def test_the_later_created_row_wins_a_tie() -> None:
    table = pa.table(
        {
            "key": ["a", "a", "a"],
            "known": pa.array([START] * 3, MICROS),
            "created": pa.array([START, START + timedelta(hours=1), None], MICROS),
            "value": [1.0, 2.0, 3.0],
        }
    )
    view = FeatureRows(table, {"key": "name"}, {"value": "feature"}, "known", created="created")
    assert point_in_time_join(_entities([("a", 0, START)]), "asked", [view])["feature"].to_pylist() == [2.0]


def test_features_keep_their_type_and_entities_theirs() -> None:
    table = pa.table(
        {
            "key": ["a"],
            "known": pa.array([START], pa.timestamp("ns")),
            "count": pa.array([3], pa.int32()),
            "tag": pa.array(["x"], pa.large_string()),
        }
    )
    view = FeatureRows(table, {"key": "name"}, {"count": "count", "tag": "tag"}, "known")
    joined = point_in_time_join(_entities([("b", 0, START), ("a", 0, START)]), "asked", [view])
    assert joined.schema.field("count").type == pa.int32()
    assert joined.schema.field("tag").type == pa.large_string()
    assert joined.schema.field("asked").type == pa.timestamp("ns", tz="Europe/Vienna")
    assert joined["tag"].to_pylist() == [None, "x"]


def test_two_columns_of_one_name_are_an_error() -> None:
    view = FeatureRows(_view([], None).table, {"key": "name"}, {"value": "half"}, "known")
    with pytest.raises(ValueError, match="several columns named half"):
        point_in_time_join(_entities([]), "asked", [view])
