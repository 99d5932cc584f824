"""The files of a registered version."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pyarrow.compute as pc

from nightshift.core.evaluation import evaluate
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.monitoring.drift import REFERENCE_TABLE, Reference, ReferenceBins
from nightshift.core.versions.package import MODEL, describe, package
from nightshift.documents.train import ModelCard, Span
from support.synthetic_training_set import DAYS, HOLDOUT_DAYS, SIGNATURE, training_split, use_case

SPLIT = training_split(rows_per_day=60)
METRICS = evaluate(SPLIT.holdout_labels, np.full(SPLIT.holdout.num_rows, 0.5))
CARD = describe(use_case(), SIGNATURE, SPLIT, METRICS, role="champion", spec=use_case().champion)


def read_reference(files: Mapping[str, Any]) -> Reference:
    return Reference.from_files(ReferenceBins.from_bytes(files[ReferenceBins.FILE]), files[REFERENCE_TABLE])


def test_a_package_holds_graph_signature_card_and_reference() -> None:
    scores = np.linspace(0, 1, SPLIT.holdout.num_rows)
    files = package(use_case(), b"graph", SIGNATURE, SPLIT, scores, CARD)
    assert files[MODEL] == b"graph"
    assert Signature.from_bytes(files[Signature.FILE]) == SIGNATURE
    card = ModelCard.from_bytes(files[ModelCard.FILE])
    assert card.measured_on == Span(
        rows=SPLIT.holdout.num_rows, first_partition=date(2020, 1, 16), last_partition=date(2020, 1, 20)
    )
    # It is fitted on all rows, those it is measured on included.
    assert card.fitted_on == Span(
        rows=SPLIT.train.num_rows + SPLIT.holdout.num_rows,
        first_partition=date(2020, 1, 1),
        last_partition=date(2020, 1, 20),
    )

    reference = read_reference(files)
    assert set(reference.counts) == {*SIGNATURE.numeric, *SIGNATURE.categorical, "p_late", "is_late"}
    assert {REFERENCE_TABLE, ReferenceBins.FILE} <= set(files)
    assert len(reference.history("rate")) == DAYS


def test_scores_on_rows_the_model_was_fitted_on_are_no_reference() -> None:
    files = package(use_case(), b"", SIGNATURE, SPLIT, np.full(SPLIT.holdout.num_rows, 0.5), CARD)
    history = read_reference(files).history("p_late")
    assert len(history) == HOLDOUT_DAYS
    assert history.sum() == SPLIT.holdout.num_rows


def test_the_same_package_has_the_same_bytes() -> None:
    scores = np.linspace(0, 1, SPLIT.holdout.num_rows)
    one, other = (package(use_case(), b"", SIGNATURE, SPLIT, scores, CARD) for _ in range(2))
    assert one[REFERENCE_TABLE].equals(other[REFERENCE_TABLE])
    assert {name: one[name] for name in one if name != REFERENCE_TABLE} == {
        name: other[name] for name in other if name != REFERENCE_TABLE
    }


def test_labels_are_zero_or_one() -> None:
    assert set(pc.unique(SPLIT.train["is_late"]).to_pylist()) == {0, 1}
    assert set(SPLIT.holdout_labels.tolist()) == {0, 1}
