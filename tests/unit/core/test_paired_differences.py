"""Intervals of paired differences cover what was planted, also where bad days follow bad days."""

import numpy as np
import pytest

from nightshift.core.paired_differences import clustered, moving_blocks

DAYS, ROWS = 60, 50


def differences(seed: int, planted: float, carry: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Row differences over DAYS days whose day effects carry over to the next day."""
    random = np.random.default_rng(seed)
    effect = np.zeros(DAYS)
    for day in range(1, DAYS):
        effect[day] = carry * effect[day - 1] + random.normal(0, 0.02)
    days = np.repeat(np.arange(DAYS) + 15_000, random.integers(ROWS - 20, ROWS + 20, DAYS))
    return planted + effect[days - 15_000] + random.normal(0, 0.1, len(days)), days


@pytest.mark.parametrize("planted", [0.0, -0.01])
def test_moving_blocks_cover_a_planted_difference(planted) -> None:
    covered = 0
    for seed in range(300):
        interval = moving_blocks(*differences(seed, planted), block_days=7, confidence=0.9, seed=1)
        covered += interval.low <= planted <= interval.high
    # 90 % of 300, and three standard errors to either side.
    assert 254 <= covered <= 290


def test_intervals_of_many_slices_hold_at_once() -> None:
    missed = 0
    for trial in range(100):
        found = [
            clustered(*differences(100 * trial + n, 0.0), block_days=7, confidence=0.9, comparisons=10)
            for n in range(10)
        ]
        missed += any(one.low > 0 or one.high < 0 for one in found)
    assert missed <= 19


def test_a_clear_difference_is_shown() -> None:
    values, days = differences(0, -0.05)
    assert moving_blocks(values, days, block_days=7, confidence=0.9, seed=1).high < 0
    assert clustered(values, days, block_days=7, confidence=0.95, comparisons=20).high < 0


def test_equal_arguments_give_equal_intervals() -> None:
    values, days = differences(0, 0.0)
    first, second = (moving_blocks(values, days, block_days=7, confidence=0.9, seed=1) for _ in range(2))
    assert first == second
    assert first.mean == pytest.approx(values.mean())


def test_too_few_days_have_no_interval() -> None:
    values, days = differences(0, 0.0)
    few = days < 15_014
    assert moving_blocks(values[few], days[few], block_days=7, confidence=0.9, seed=1).low is None
    assert clustered(values[few], days[few], block_days=7, confidence=0.9, comparisons=1) is None


def test_days_without_rows_keep_their_place_in_blocks() -> None:
    values, days = differences(0, 0.0)
    kept = days % 3 != 0
    interval = moving_blocks(values[kept], days[kept], block_days=7, confidence=0.9, seed=1)
    assert interval.mean == pytest.approx(values[kept].mean())
    assert interval.low < interval.mean < interval.high
