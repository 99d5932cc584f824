"""Membership told by the loss."""

from __future__ import annotations

import numpy as np
import pytest

from nightshift.core.attacks.membership import infer_membership

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, 4000)


def test_a_score_that_knows_nothing_of_its_rows_tells_nothing() -> None:
    inside, outside = RANDOM.random(4000), RANDOM.random(4000)
    result = infer_membership((LABELS, inside), (LABELS, outside))
    assert result.auc == pytest.approx(0.5, abs=0.02)
    assert result.found_at_1_percent == pytest.approx(0.01, abs=0.01)


def test_remembered_labels_tell_everything() -> None:
    remembered = np.where(LABELS == 1, 0.99, 0.01)
    result = infer_membership((LABELS, remembered), (LABELS, np.full(4000, 0.5)))
    assert (result.auc, result.found_at_1_percent) == (1.0, 1.0)
