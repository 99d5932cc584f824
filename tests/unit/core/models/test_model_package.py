"""The card of a version."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow.compute as pc

from nightshift.core.evaluation import evaluate
from nightshift.core.versions.package import describe
from nightshift.documents.train import ModelCard, Span
from support.synthetic_training_set import SIGNATURE, training_split, use_case

SPLIT = training_split(rows_per_day=60)
METRICS = evaluate(SPLIT.holdout_labels, np.full(SPLIT.holdout.num_rows, 0.5))
CARD = describe(use_case(), SIGNATURE, SPLIT, METRICS, role="champion", spec=use_case().champion)


def test_a_card_says_what_a_version_was_fitted_and_measured_on() -> None:
    card = ModelCard.from_bytes(CARD.to_files()[ModelCard.FILE])
    assert card.measured_on == Span(
        rows=SPLIT.holdout.num_rows, first_partition=date(2020, 1, 16), last_partition=date(2020, 1, 20)
    )
    # It is fitted on all rows, those it is measured on included.
    assert card.fitted_on == Span(
        rows=SPLIT.train.num_rows + SPLIT.holdout.num_rows,
        first_partition=date(2020, 1, 1),
        last_partition=date(2020, 1, 20),
    )


def test_labels_are_zero_or_one() -> None:
    assert set(pc.unique(SPLIT.train["is_late"]).to_pylist()) == {0, 1}
    assert set(SPLIT.holdout_labels.tolist()) == {0, 1}
