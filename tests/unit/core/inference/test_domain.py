"""Rows relative to the domain of a version."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.inference.domain import Domain, NumericDomain, locate

RANGE = NumericDomain(low=0.0, high=10.0, missing=False)


def domain(**changes: object) -> Domain:
    made = Domain(
        numeric={"a": RANGE, "b": NumericDomain(low=-1.0, high=1.0, missing=True)},
        categories={"kind": ("", "x", "y")},
        mean=(5.0, 0.0),
        scale=(2.0, 0.5),
        whitening=((1.0, 0.0), (0.0, 1.0)),
        threshold=2.0,
        days=30,
    )
    return made.model_copy(update=changes)


def rows(a: float | None = 5.0, b: float | None = 0.0, kind: str | None = "x") -> pa.Table:
    return pa.table({"kind": pa.array([kind], pa.string()), "b": pa.array([b], pa.float64()), "a": [a]}).cast(
        pa.schema({"kind": pa.string(), "b": pa.float64(), "a": pa.float64()})
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, 0),
        ({"a": 0.0, "b": 1.0}, 0),
        ({"a": 10.5}, 1),
        ({"a": -0.5, "b": 1.5}, 2),
        ({"a": None}, 1),
        ({"b": None, "kind": None}, 0),
        ({"kind": "z", "a": 11.0}, 2),
    ],
)
def test_features_out_of_range_are_counted(row: dict[str, float | str | None], expected: int) -> None:
    assert locate(domain(), rows(**row)).out_of_range.tolist() == [expected]  # type: ignore[arg-type]


def test_a_feature_without_training_values_has_no_range() -> None:
    nothing = NumericDomain(low=None, high=None, missing=True)
    made = domain(numeric={"a": RANGE, "b": nothing})
    assert locate(made, rows(b=1e6)).out_of_range.tolist() == [0]


@pytest.mark.parametrize(
    ("row", "outside"),
    [
        ({}, False),
        ({"a": 9.0}, False),
        ({"a": 9.1}, True),
        ({"a": 8.0, "b": 0.75}, True),
        ({"a": None, "b": None}, False),
    ],
)
def test_a_row_is_out_of_the_domain_beyond_the_distance(row: dict[str, float | None], outside: bool) -> None:
    position = locate(domain(), rows(**row))  # type: ignore[arg-type]
    assert position.out_of_domain is not None
    assert position.out_of_domain.tolist() == [outside]


def test_the_distance_is_of_the_joint_distribution() -> None:
    """Two features that always rise together, and a row in which one is high and the other low."""
    covariance = np.array([[1.0, 0.95], [0.95, 1.0]])
    whitening = tuple(map(tuple, np.linalg.cholesky(np.linalg.inv(covariance)).tolist()))
    made = domain(whitening=whitening)
    together, apart = locate(made, rows(a=8.0, b=0.75)), locate(made, rows(a=8.0, b=-0.75))
    assert together.out_of_domain is not None
    assert apart.out_of_domain is not None
    assert (together.out_of_domain[0], apart.out_of_domain[0]) == (False, True)


def test_without_a_threshold_only_ranges_are_known() -> None:
    position = locate(domain(threshold=None), rows(a=99.0))
    assert (position.out_of_range.tolist(), position.out_of_domain) == ([1], None)


def test_a_domain_of_no_numeric_features() -> None:
    made = domain(numeric={}, mean=(), scale=(), whitening=(), threshold=None)
    assert locate(made, rows(kind="z")).out_of_range.tolist() == [1]


def test_a_domain_is_the_same_after_it_was_stored() -> None:
    made = domain(mean=(0.1 + 0.2, 1e-17), threshold=1 / 3)
    assert Domain.from_bytes(made.to_files()[Domain.FILE]) == made
