"""The domain of a version, fitted on days of rows."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.inference.domain import Domain, locate
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models import domain as fitting
from nightshift.core.models.domain import fit_domain
from nightshift.declare.policies import CertaintyPolicy

FIRST = date(2020, 1, 1)
SIGNATURE = Signature(
    numeric=("weather", "row", "constant", "sometimes"), categorical=("kind",), feature_service="s", score="p"
)


def days_of_rows(days: int, *, seed: int = 0, rows: int = 60, tail: float = 3.0) -> pa.Table:
    """`weather` is one value a day, the others differ between rows."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), rows)
    sometimes = rng.normal(size=len(day))
    sometimes[::7] = np.nan
    return pa.table(
        {
            "partition": pa.array([FIRST + timedelta(days=int(number)) for number in day], pa.date32()),
            "weather": rng.standard_t(tail, days)[day],
            "row": rng.normal(size=len(day)),
            "constant": np.full(len(day), 4.0),
            "sometimes": pa.array(sometimes, from_pandas=True),
            "kind": np.array(["x", "y"])[rng.integers(0, 2, len(day))],
        }
    )


def out_of_domain(domain: Domain, rows: pa.Table) -> np.ndarray:
    outside = locate(domain, rows).out_of_domain
    assert outside is not None
    return outside


def test_ranges_and_categories_are_those_of_the_training_rows() -> None:
    rows = days_of_rows(20)
    domain = fit_domain(rows, SIGNATURE, CertaintyPolicy())
    assert list(domain.numeric) == list(SIGNATURE.numeric)
    values = rows["row"].to_numpy().astype(np.float32)
    assert (domain.numeric["row"].low, domain.numeric["row"].high) == (values.min(), values.max())
    assert [one.missing for one in domain.numeric.values()] == [False, False, False, True]
    assert domain.categories == {"kind": ("x", "y")}
    assert locate(domain, rows).out_of_range.sum() == 0


def test_the_same_rows_give_the_same_bytes() -> None:
    rows = days_of_rows(20)
    assert (
        fit_domain(rows, SIGNATURE, CertaintyPolicy()).to_files()
        == fit_domain(rows, SIGNATURE, CertaintyPolicy()).to_files()
    )


def test_new_days_are_in_the_domain_as_declared() -> None:
    """Over many histories: on about `days_beyond` of new days more than `rows_beyond` of the rows are outside."""
    policy = CertaintyPolicy(rows_beyond=0.1, days_beyond=0.1, margin_days=0)
    beyond = []
    for seed in range(12):
        rows = days_of_rows(70, seed=seed)
        domain = fit_domain(rows.slice(0, 50 * 60), SIGNATURE, policy)
        new = out_of_domain(domain, rows.slice(50 * 60)).reshape(20, 60).mean(axis=1)
        beyond += (new > 0.1).tolist()
    assert 0.02 < np.mean(beyond) < 0.15


def test_the_days_of_the_threshold_are_held_out() -> None:
    """Thirty days and ten features of the day: the days that a distance is fitted on are nearer than new ones."""
    weather = tuple(f"weather_{number}" for number in range(10))
    values = np.random.default_rng(0).normal(size=(30, 10))
    rows = pa.table(
        {
            "partition": pa.array([FIRST + timedelta(days=number) for number in range(30)], pa.date32()),
            **dict(zip(weather, values.T, strict=True)),
        }
    )
    signature = Signature(numeric=weather, feature_service="s", score="p")
    domain = fit_domain(rows, signature, CertaintyPolicy(margin_days=0))
    z = (values.astype(np.float32) - np.array(domain.mean)) / np.array(domain.scale)
    largest = np.sqrt(((z @ np.array(domain.whitening)) ** 2).sum(axis=1)).max()
    assert domain.threshold is not None
    assert domain.threshold > 1.05 * largest


def test_a_quantile_of_all_rows_would_be_too_narrow() -> None:
    """Days are held out: the threshold is above the same quantile of the rows it was fitted on."""
    rows = days_of_rows(40, tail=1.5)
    policy = CertaintyPolicy()
    domain = fit_domain(rows, SIGNATURE, policy)
    by_day = out_of_domain(domain, rows).reshape(40, 60).mean(axis=1)
    assert (by_day > policy.rows_beyond).mean() <= policy.days_beyond
    assert domain.days == 40


def test_a_row_unlike_the_training_rows_is_out_of_the_domain() -> None:
    rows = days_of_rows(40)
    domain = fit_domain(rows, SIGNATURE, CertaintyPolicy())
    strange = rows.slice(0, 1).set_column(2, "row", pa.array([50.0]))
    assert out_of_domain(domain, strange).tolist() == [True]


def test_a_constant_feature_is_left_out_of_the_distance() -> None:
    rows = days_of_rows(40)
    domain = fit_domain(rows, SIGNATURE, CertaintyPolicy())
    changed = rows.set_column(3, "constant", pa.array(np.full(rows.num_rows, 5.0)))
    assert out_of_domain(domain, changed).tolist() == out_of_domain(domain, rows).tolist()
    assert (locate(domain, changed).out_of_range == 1).all()


def test_copies_of_a_feature_have_a_distance() -> None:
    rows = days_of_rows(20)
    copied = rows.set_column(2, "row", rows["weather"])
    assert out_of_domain(fit_domain(copied, SIGNATURE, CertaintyPolicy()), copied).mean() < 0.05


@pytest.mark.parametrize(("days", "known"), [(13, False), (14, True)])
def test_too_few_days_set_no_threshold(days: int, known: bool) -> None:
    assert (fit_domain(days_of_rows(days), SIGNATURE, CertaintyPolicy()).threshold is not None) is known


def test_a_version_without_numeric_features_has_no_threshold() -> None:
    only_kind = Signature(numeric=(), categorical=("kind",), feature_service="s", score="p")
    domain = fit_domain(days_of_rows(20), only_kind, CertaintyPolicy())
    assert domain.threshold is None
    assert locate(domain, days_of_rows(1)).out_of_range.tolist() == [0] * 60


def test_only_a_sample_of_many_rows_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MOST_ROWS", 500)
    rows = days_of_rows(40)
    domain = fit_domain(rows, SIGNATURE, CertaintyPolicy())
    assert domain.days == 40
    assert locate(domain, rows).out_of_range.sum() == 0
