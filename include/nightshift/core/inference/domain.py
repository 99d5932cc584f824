"""The domain of a version: its training rows' ranges and categories, and the distance from which on rows are unlike.

The distance of a row is that of Mahalanobis (1936) of its numeric features from the mean of the training rows, missing
values being at the mean (a feature that is constant in training has the scale 0 and is left out):

    d(x) = | W' z |,    z = (x - mean) / scale, or 0 where x is missing,   W W' = inverse of the covariance of z

`core.models.domain` fits it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightshift.artifact import Document, Value
from nightshift.core.arrays import Float32s, Floats, Integers
from nightshift.core.inference.onnx_model import ABSENT_CATEGORY, numeric_matrix

DISTANCE_DIGITS = 9
"""Decimals of distances that count: sums of floats may differ in the last digits between machines."""


class NumericDomain(Value):
    """Smallest and largest training value of a feature (None: it had none), and whether values were missing."""

    low: float | None
    high: float | None
    missing: bool


class Domain(Document):
    """Where the training rows of a version lie.

    `numeric`: by feature, in the signature's order. `categories`: the training values by feature; null is "". `mean`,
    `scale` [k] and `whitening` [k, k] of the numeric features: see the module docstring. `threshold`: the distance
    beyond which a row is out of the domain; None if there were too few days to set it on. `days`: their number.
    """

    FILE: ClassVar[str] = "domain.json"

    numeric: Mapping[str, NumericDomain]
    categories: Mapping[str, tuple[str, ...]]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    threshold: float | None
    days: int


@dataclass(frozen=True)
class Position:
    """Of rows [n]: the number of features out of range (int64), and whether the row is out of the domain (None: there
    is no threshold)."""

    out_of_range: Integers
    out_of_domain: npt.NDArray[np.bool_] | None


def locate(domain: Domain, rows: pa.Table) -> Position:
    """Where rows lie relative to a domain; `rows` has its features.

    A numeric feature is out of range if it is smaller or larger than all training values, or missing and was not in
    training; a categorical one if it is none of the training values. Raises FeatureContractError as `numeric_matrix`.
    """
    matrix = numeric_matrix(rows, tuple(domain.numeric))
    beyond = np.zeros(rows.num_rows, dtype=np.int64)
    for column, one in zip(matrix.T, domain.numeric.values(), strict=True):
        if one.low is not None and one.high is not None:
            beyond += (column < one.low) | (column > one.high)
        if not one.missing:
            beyond += np.isnan(column)
    for name, known in domain.categories.items():
        text = pc.fill_null(pc.cast(rows[name], pa.string()), ABSENT_CATEGORY)
        beyond += ~np.asarray(pc.is_in(text, value_set=pa.array(known, pa.string())), dtype=np.bool_)
    if domain.threshold is None:
        return Position(beyond, None)
    whitening = np.asarray(domain.whitening, dtype=np.float64).reshape(len(domain.mean), -1)
    lengths = distances(standardised(matrix, np.asarray(domain.mean), np.asarray(domain.scale)), whitening)
    return Position(beyond, lengths > domain.threshold)


def standardised(matrix: Float32s, mean: Floats, scale: Floats) -> Floats:
    """Numeric features [n, k], NaN for missing, as z of the module docstring [n, k]."""
    z = (matrix - mean) / np.where(scale > 0, scale, np.inf)
    z[np.isnan(z)] = 0.0
    return np.asarray(z, dtype=np.float64)


def distances(z: Floats, whitening: Floats) -> Floats:
    """The distance of each row [n] of z [n, k]."""
    # One BLAS thread, so that the number of threads cannot change a distance.
    with threadpool_limits(limits=1, user_api="blas"):
        white = z @ whitening
    return np.asarray(np.round(np.sqrt(np.einsum("ij,ij->i", white, white)), DISTANCE_DIGITS), dtype=np.float64)
