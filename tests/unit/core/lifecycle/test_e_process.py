"""The e-process: its error rate when there is no harm, its power when there is, measured on simulated partitions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nightshift.core.lifecycle.e_process import FRACTIONS, e_values
from nightshift.declare.policies import PromotionPolicy

POLICY = PromotionPolicy()
SERIES, PARTITIONS = 1500, 60


def autocorrelated(phi: float, mean: float, deviation: float, partitions: int = PARTITIONS) -> npt.NDArray[np.float64]:
    """AR(1) differences of log loss [SERIES, partitions], in nats."""
    rng = np.random.default_rng(7)
    noise = rng.normal(0, deviation, (SERIES, partitions))
    series = noise.copy()
    for day in range(1, partitions):
        series[:, day] = phi * series[:, day - 1] + np.sqrt(1 - phi**2) * noise[:, day]
    return series + mean


def share_rolled_back(series: npt.NDArray[np.float64]) -> float:
    bound = 1 / POLICY.rollback_error
    return float(np.mean([e_values(one, POLICY.rollback_clip).max() >= bound for one in series]))


@pytest.mark.parametrize("deviation", [0.005, 0.01, 0.03, 0.1])
def test_error_rate_independent(deviation: float) -> None:
    assert share_rolled_back(autocorrelated(0.0, 0.0, deviation)) <= POLICY.rollback_error


def test_error_rate_one_sided_noise() -> None:
    """Half the partitions are a little worse and a few much better: the mean of the clipped differences is 0."""
    rng = np.random.default_rng(3)
    series = np.where(rng.random((SERIES, PARTITIONS)) < 0.75, 0.01, -0.03)
    assert share_rolled_back(series) <= POLICY.rollback_error


@pytest.mark.parametrize(("deviation", "partitions"), [(0.01, PARTITIONS), (0.03, POLICY.watch_partitions)])
def test_error_rate_autocorrelated(deviation: float, partitions: int) -> None:
    """Not promised: the expectation given the past is not 0. With a deviation of 0.03 and 60 partitions it is 0.11."""
    assert share_rolled_back(autocorrelated(0.4, 0.0, deviation, partitions)) <= 1.5 * POLICY.rollback_error


@pytest.mark.parametrize(("phi", "harm", "least"), [(0.0, 0.02, 0.9), (0.4, 0.02, 0.85), (0.0, 0.04, 0.99)])
def test_power_within_the_watch(phi: float, harm: float, least: float) -> None:
    assert share_rolled_back(autocorrelated(phi, harm, 0.01, POLICY.watch_partitions)) >= least


def test_values() -> None:
    clip = 0.03
    expected = np.mean([(1 + f) * (1 - f / 2) for f in FRACTIONS])
    values = e_values(np.array([0.5, -0.015]), clip)
    assert values == pytest.approx([np.mean([1 + f for f in FRACTIONS]), expected])
    assert e_values(np.array([]), clip).shape == (0,)
