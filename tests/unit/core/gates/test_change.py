"""Labels flipped, features zeroed, units changed: each stops a version at the shipped bounds; ordinary nights pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.core.gates.change import check_change, check_feature_values, check_new_rows, reference_rows
from nightshift.core.inference.onnx_model import Signature, load_session, score
from nightshift.core.versions.version import export_version, fit_spec
from nightshift.declare.models import ModelSpec
from nightshift.declare.policies import ChangePolicy
from nightshift.deployment import GateResult

POLICY = ChangePolicy()
FIRST, DAYS, ROWS = date(2020, 1, 1), 50, 200
DAY = timedelta(days=1)
LAST = FIRST + DAYS * DAY
NUMERIC = ("hour", "miles", "late_rate", "wind", "rain", "visibility")
SIGNATURE = Signature(numeric=NUMERIC, categorical=("carrier",), feature_service="v1", score="p_late")
SPECS = {
    "linear": ModelSpec(name="linear", estimators=("logistic_regression",)),
    "trees": ModelSpec(
        name="trees",
        estimators=("xgboost",),
        parameters={"xgboost": {"n_estimators": 30, "max_depth": 3, "learning_rate": 0.1}},
    ),
}


@cache
def rows() -> pa.Table:
    """Days with their own weather (three airports share it) and luck, seasons, and a rate that is learned over time."""
    rng = np.random.default_rng(3)
    tables = []
    for n in range(DAYS):
        airport = rng.integers(0, 3, ROWS)
        wind = np.abs(rng.normal(10 + 4 * np.sin(n / 12), 5) + rng.normal(0, 1, 3))[airport]
        rain = (np.maximum(rng.normal(-0.3, 0.6), 0) * rng.uniform(0.5, 1.5, 3))[airport]
        hour, miles = rng.uniform(5, 23, ROWS), rng.gamma(9, 120, ROWS) + 90
        rate = np.clip(rng.beta(4, 14, ROWS) + 0.03 * np.sin(n / 20), 0, 1)
        carrier = rng.choice(["AA", "BB", "CC"], ROWS)
        log_odds = -3 + 0.12 * (hour - 12) + 5 * rate + 0.8 * rain + 0.03 * wind + 0.4 * (carrier == "CC")
        log_odds = log_odds - 0.0004 * miles + rng.normal(0, 0.4)
        day = FIRST + n * DAY
        columns = {
            "partition": pa.array([day] * ROWS, pa.date32()),
            KNOWN_ON: pa.array([day + DAY] * ROWS, pa.date32()),
            "hour": pa.array(hour),
            "miles": pa.array(miles, mask=rng.random(ROWS) < 0.02),
            "late_rate": pa.array(rate),
            "wind": pa.array(wind),
            "rain": pa.array(rain),
            "visibility": pa.array(rng.uniform(8, 10, 3)[airport]),
            "carrier": pa.array(carrier),
            "is_late": pa.array((rng.random(ROWS) < 1 / (1 + np.exp(-log_odds))).astype(np.int64)),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables).combine_chunks()


def known(table: pa.Table, partition: date) -> pa.Table:
    return table.filter(pc.less_equal(table[KNOWN_ON], pa.scalar(partition, pa.date32())))


def graph(table: pa.Table, spec: ModelSpec, partition: date) -> bytes:
    fitted = fit_spec(spec, known(table, partition), "is_late", SIGNATURE, as_of=partition, threads=1)
    return export_version(fitted).graph


@cache
def replaced(name: str, partition: date) -> bytes:
    return graph(rows(), SPECS[name], partition)


def judged(table: pa.Table, name: str, partition: date) -> list[GateResult]:
    """The gates of a version fitted on `table`, which replaces the one of the day before, fitted on ordinary rows."""
    reference = reference_rows(known(table, partition), partition, POLICY)
    scored = reference.scored(POLICY.reference_rows)
    before = score(load_session(replaced(name, partition - DAY)), SIGNATURE, scored)
    version = replaced(name, partition) if table is rows() else graph(table, SPECS[name], partition)
    after = score(load_session(version), SIGNATURE, scored)
    labels = reference.newest["is_late"].to_numpy()
    return [
        check_feature_values(reference, NUMERIC, POLICY),
        check_new_rows(before[len(before) - len(labels) :], labels, "2020-01-01-aaaaaaaa", POLICY),
        check_change(after, before, "2020-01-01-aaaaaaaa", POLICY),
    ]


def failed(gates: list[GateResult]) -> dict[str, GateResult]:
    return {gate.gate: gate for gate in gates if gate.verdict == "fail"}


def named(found: dict[str, GateResult], feature: str) -> bool:
    return feature in found["feature_values"].reason


def changed(name: str, change: Callable[[np.ndarray], np.ndarray], *, newest: bool) -> pa.Table:
    """The rows with one column changed, of the newest day only or of every day."""
    table = rows()
    days = table[KNOWN_ON].to_numpy() == np.datetime64(LAST)
    values = table[name].to_numpy()
    column = np.where(days, change(values), values) if newest else change(values)
    position = table.schema.get_field_index(name)
    return table.set_column(position, name, pa.array(column, table[name].type, from_pandas=True))


@pytest.mark.parametrize("name", SPECS)
def test_ordinary_nights_pass(name: str) -> None:
    nights = [LAST - n * DAY for n in range(22)]
    assert {night: found for night in nights if (found := failed(judged(rows(), name, night)))} == {}


@pytest.mark.parametrize("name", SPECS)
def test_flipped_labels_of_the_newest_day_stop_a_version(name: str) -> None:
    found = failed(judged(changed("is_late", lambda labels: 1 - labels, newest=True), name, LAST))
    new_rows = found["new_rows"]
    assert new_rows.code == "new_rows.auc"
    assert new_rows.observed < new_rows.bound <= POLICY.least_day_auc


@pytest.mark.parametrize("feature", NUMERIC)
def test_a_feature_zeroed_on_the_newest_day_is_named(feature: str) -> None:
    table = changed(feature, np.zeros_like, newest=True)
    found = failed(judged(table, "linear", LAST))
    # A dry day is no news.
    assert feature == "rain" or (found["feature_values"].code == "feature_values.empty" and named(found, feature))


@pytest.mark.parametrize(("feature", "factor"), [("hour", 60), ("miles", 1.609), ("late_rate", 100), ("wind", 88)])
def test_a_unit_changed_on_the_newest_day_is_named(feature: str, factor: float) -> None:
    found = failed(judged(changed(feature, lambda values: factor * values, newest=True), "linear", LAST))
    assert named(found, feature)


@pytest.mark.parametrize(("feature", "factor"), [("hour", 1 / 60), ("miles", 1e-3)])
def test_a_larger_unit_on_the_newest_day_is_named(feature: str, factor: float) -> None:
    found = failed(judged(changed(feature, lambda values: factor * values, newest=True), "linear", LAST))
    assert named(found, feature)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(("feature", "factor"), [("hour", 0), ("late_rate", 0), ("hour", 60), ("late_rate", 100)])
def test_a_feature_changed_in_all_rows_stops_a_version(name: str, feature: str, factor: float) -> None:
    found = failed(judged(changed(feature, lambda values: factor * values, newest=False), name, LAST))
    assert found["change"].code in ("change.shift", "change.spread")


def test_too_few_days_or_labels_are_not_applicable() -> None:
    early = FIRST + 3 * DAY
    reference = reference_rows(known(rows(), early), early, POLICY)
    few_rows = check_feature_values(reference, NUMERIC, POLICY)
    assert (few_rows.verdict, few_rows.code) == ("not applicable", "feature_values.few_rows")
    none = np.zeros(ROWS, dtype=np.int64)
    few_labels = check_new_rows(np.full(ROWS, 0.2), none, "v", POLICY)
    assert (few_labels.verdict, few_labels.code) == ("not applicable", "new_rows.few_labels")


def test_missing_all_day_is_named_and_a_bound_can_be_widened() -> None:
    table = changed("late_rate", lambda values: np.full_like(values, np.nan), newest=True)
    reference = reference_rows(table, LAST, POLICY)
    missing = check_feature_values(reference, NUMERIC, POLICY)
    assert (missing.code, missing.observed) == ("feature_values.empty", 1.0)
    assert "late_rate" in missing.reason
    scores = np.full(100, 0.2)
    assert check_change(scores * 1.5, scores, "v", POLICY).code == "change.shift"
    assert check_change(scores * 1.5, scores, "v", dataclasses.replace(POLICY, largest_shift=1.0)).verdict == "pass"
