"""Metrics of probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from nightshift.core.evaluation import expected_log_loss, log_loss


def test_the_expected_loss_is_that_of_calibrated_scores() -> None:
    assert expected_log_loss(np.array([0.5, 0.5])) == pytest.approx(np.log(2))
    assert expected_log_loss(np.array([0.0, 1.0])) == pytest.approx(0, abs=1e-5)
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.05, 0.95, 200_000)
    labels = (rng.uniform(size=len(scores)) < scores).astype(np.int64)
    assert expected_log_loss(scores) == pytest.approx(log_loss(labels, scores), abs=0.005)
