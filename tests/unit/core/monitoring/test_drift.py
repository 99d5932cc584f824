"""PSI, thresholds and verdicts of drift, against values worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.artifact import sha256_hex
from nightshift.core.monitoring.drift import (
    REFERENCE_TABLE,
    Bins,
    Reference,
    ReferenceBins,
    build_reference,
    compare,
    numeric_bins,
    population_stability_index,
    response,
    shares,
    upper_quantile,
)
from nightshift.declare.policies import DriftPolicy

FIRST = date(2013, 1, 1)
FLIGHTS, DAYS = 200, 120
NUMERIC = (*(f"steady_{i}" for i in range(8)), "wind")
POLICY = DriftPolicy(quantile=0.95)


def days_of_rows(days: int, seed: int, *, first: date = FIRST, shifted: dict[str, float] | None = None) -> pa.Table:
    """Rows of several days: steady columns vary by row, `wind` varies by day as weather does."""
    rng = np.random.default_rng(seed)
    rows = days * FLIGHTS
    day = np.repeat(np.arange(days), FLIGHTS)
    columns: dict[str, object] = {name: rng.normal(size=rows) for name in NUMERIC}
    columns["wind"] = rng.normal(size=days)[day] * 3 + rng.normal(size=rows)
    for name, shift in (shifted or {}).items():
        columns[name] = np.asarray(columns[name]) + shift
    columns["carrier"] = rng.choice(["UA", "B6", "EV"], rows, p=[0.5, 0.3, 0.2])
    columns["day"] = pa.array([first + timedelta(days=int(d)) for d in day], pa.date32())
    return pa.table(columns)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return build_reference(days_of_rows(DAYS, 0), numeric=NUMERIC, categorical=("carrier",), day_column="day", bins=10)


def verdicts(reference: Reference, table: pa.Table) -> list[tuple[str, set[str]]]:
    found = []
    for day in range(table.num_rows // FLIGHTS):
        group = compare(reference, reference.count(table.slice(day * FLIGHTS, FLIGHTS)), reference.bins, POLICY, 1)
        found.append((group.verdict, {column.column for column in group.columns if column.exceeds}))
    return found


def test_psi_against_a_value_worked_out_by_hand() -> None:
    # (0.6-0.5) ln(0.6/0.5) + (0.4-0.5) ln(0.4/0.5) = 0.1 * 0.1823216 + 0.1 * 0.2231436
    found = population_stability_index(np.array([0.6, 0.4]), np.array([0.5, 0.5]))
    assert found == pytest.approx(0.0405465, abs=1e-7)


def test_empty_bins_get_half_a_row() -> None:
    assert shares(np.array([3, 0])) == pytest.approx([3.5 / 4, 0.5 / 4])


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=8), st.data())
def test_psi_is_never_negative_and_zero_for_itself(counts: list[int], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.integers(0, 1000), min_size=len(counts), max_size=len(counts)))
    a, b = shares(np.array(counts)), shares(np.array(other))
    assert population_stability_index(a, b) >= -1e-12
    assert population_stability_index(a, b) == pytest.approx(population_stability_index(b, a))
    assert population_stability_index(a, a) == 0


@pytest.mark.parametrize(("n", "quantile", "rank"), [(199, 0.95, 190), (199, 0.99, 198), (14, 0.99, 14)])
def test_the_bound_is_the_conformal_rank(n: int, quantile: float, rank: int) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert upper_quantile(values, quantile) == rank


def test_days_like_the_reference_fire_at_about_the_declared_rate(reference: Reference) -> None:
    nights = verdicts(reference, days_of_rows(400, 1))
    columns = len(reference.bins)
    exceeding = sum(len(names) for _, names in nights) / (400 * columns)
    assert 0.02 <= exceeding <= 0.09  # declared: 0.05 a column
    drifted = sum(verdict == "drifted" for verdict, _ in nights) / 400
    assert drifted <= 0.09  # declared: 0.05 a night, not 1 - 0.95 ** 10 = 0.40


def test_a_shifted_column_is_found_and_named(reference: Reference) -> None:
    nights = verdicts(reference, days_of_rows(20, 2, shifted={"steady_3": 1.0, "steady_5": -1.0, "steady_6": 1.0}))
    assert all(verdict == "drifted" for verdict, _ in nights)
    assert all({"steady_3", "steady_5", "steady_6"} <= names for _, names in nights)


def test_one_shifted_column_is_named_without_an_alarm(reference: Reference) -> None:
    assert all("steady_3" in names for _, names in verdicts(reference, days_of_rows(5, 2, shifted={"steady_3": 1.0})))


def test_weather_like_days_do_not_alarm(reference: Reference) -> None:
    nights = days_of_rows(200, 3)
    psi, exceeds = [], []
    for day in range(200):
        group = compare(reference, reference.count(nights.slice(day * FLIGHTS, FLIGHTS)), ["wind"], POLICY, 1)
        psi.append(group.columns[0].psi)
        exceeds.append(group.columns[0].exceeds)
    assert np.mean(np.array(psi) > 0.2) > 0.9
    assert np.mean(exceeds) < 0.12


def test_a_weather_value_never_seen_fires(reference: Reference) -> None:
    group = compare(reference, reference.count(days_of_rows(1, 4, shifted={"wind": 30.0})), ["wind"], POLICY, 1)
    assert group.verdict == "drifted"


def test_a_new_category_is_drift(reference: Reference) -> None:
    night = days_of_rows(1, 5)
    night = night.set_column(night.schema.get_field_index("carrier"), "carrier", pa.array(["new"] * FLIGHTS))
    assert compare(reference, reference.count(night), ["carrier"], POLICY, 1).verdict == "drifted"


def test_nulls_where_there_were_none_are_drift(reference: Reference) -> None:
    night = days_of_rows(1, 5)
    nulls = pa.array([None if i % 2 else 0.1 for i in range(FLIGHTS)], pa.float64())
    night = night.set_column(night.schema.get_field_index("steady_0"), "steady_0", nulls)
    assert compare(reference, reference.count(night), ["steady_0"], POLICY, 1).verdict == "drifted"


def test_too_short_a_reference_judges_nothing() -> None:
    short = build_reference(days_of_rows(13, 0), numeric=NUMERIC, categorical=(), day_column="day")
    group = compare(short, short.count(days_of_rows(1, 1, shifted={"wind": 99.0})), NUMERIC, POLICY, 1)
    assert group.verdict == "not judged"
    assert group.columns[-1].psi > 1
    assert not any(column.exceeds for column in group.columns)


def test_no_rows_judge_nothing(reference: Reference) -> None:
    group = compare(reference, reference.count(days_of_rows(1, 1).slice(0, 0)), NUMERIC, POLICY, 1)
    assert group.verdict == "not judged"


def test_blocks_of_a_week_are_compared_with_weeks(reference: Reference) -> None:
    weekly = DriftPolicy(quantile=0.95, block_days=7)
    group = compare(reference, reference.count(days_of_rows(7, 6)), ["steady_0", "wind"], weekly, 1)
    nightly = compare(reference, reference.count(days_of_rows(1, 6)), ["steady_0", "wind"], POLICY, 1)
    assert all(
        week.threshold < night.threshold
        for week, night in zip(group.columns, nightly.columns, strict=True)
        if week.threshold is not None and night.threshold is not None
    )
    assert group.verdict == "stable"


def read_reference(files: Mapping[str, Any]) -> Reference:
    return Reference.from_files(ReferenceBins.from_bytes(files[ReferenceBins.FILE]), files[REFERENCE_TABLE])


def test_a_sparse_column_counts_only_the_days_it_is_known() -> None:
    table = days_of_rows(40, 0)
    scores = np.random.default_rng(0).uniform(size=table.num_rows)
    scores[: 20 * FLIGHTS] = np.nan
    table = table.append_column("score", pa.array(scores, from_pandas=True))
    built = build_reference(table, numeric=("score",), categorical=(), day_column="day", sparse=("score",))
    again = read_reference(built.to_files())
    assert len(built.history("score")) == len(again.history("score")) == 20
    night = pa.table({"score": np.random.default_rng(1).uniform(size=FLIGHTS)})
    assert compare(again, again.count(night), ["score"], POLICY, 1).verdict == "stable"


def test_a_reference_survives_its_files(reference: Reference) -> None:
    again = read_reference(reference.to_files())
    assert again.days == reference.days
    assert again.bins == reference.bins
    assert all((again.counts[name] == reference.counts[name]).all() for name in reference.counts)
    assert sha256_hex(again.to_files()["reference.json"]) == sha256_hex(reference.to_files()["reference.json"])


def test_the_reference_ignores_the_order_of_rows() -> None:
    table = days_of_rows(15, 0)
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    files = [
        build_reference(t, numeric=NUMERIC, categorical=("carrier",), day_column="day").to_files()
        for t in (table, shuffled)
    ]
    assert files[0]["reference.json"] == files[1]["reference.json"]
    assert files[0]["reference.parquet"].equals(files[1]["reference.parquet"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0] * 5, [[0.0], [1.0, 2.0, 3.0, 4.0, 5.0]]),
        ([10.0] * 85 + [float(i) for i in range(9)] + [9.5] * 6, [[10.0]]),
    ],
)
def test_a_value_that_dominates_gets_a_bin_of_its_own(values: list[float], expected: list[list[float]]) -> None:
    bins = numeric_bins(np.array(values), 4)
    assigned = bins.assign(pa.array(values))
    for alone in expected:
        own = {int(b) for value, b in zip(values, assigned, strict=True) if value in alone}
        others = {int(b) for value, b in zip(values, assigned, strict=True) if value not in alone}
        assert not own & others


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32), max_size=60), st.integers(2, 12))
def test_every_value_has_a_bin_and_a_label(values: list[float], bins: int) -> None:
    made = numeric_bins(np.array(values, dtype=np.float64), bins)
    assigned = made.assign(pa.array(values, pa.float64()))
    assert len(made.labels) == made.size
    assert all(0 <= b < made.size for b in assigned)
    assert all((b == made.size - 1) == np.isnan(value) for b, value in zip(assigned, values, strict=True))


def test_booleans_integers_and_labels_are_numbers() -> None:
    bins = Bins("numeric", edges=(0.5,))
    for column in (pa.array([False, True, None]), pa.array([0, 1, None], pa.int64())):
        assert bins.assign(column).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("drifted", "expected"),
    [
        (set(), "none"),
        ({"data"}, "alert"),
        ({"prediction"}, "alert"),
        ({"label"}, "retrain"),
        ({"data", "prediction"}, "retrain"),
    ],
)
def test_what_a_drift_asks_for(drifted, expected):
    verdicts = {group: "drifted" if group in drifted else "stable" for group in ("data", "prediction", "label")}
    assert response(verdicts) == expected
