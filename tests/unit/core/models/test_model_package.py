from __future__ import annotations

import json

import numpy as np
import pyarrow.compute as pc

from nightshift.core.inference.onnx_model import Signature
from nightshift.core.monitoring.drift import REFERENCE_BINS, REFERENCE_TABLE, Reference
from nightshift.core.versions.package import CARD, MODEL, describe, package
from synthetic_training_set import DAYS, HOLDOUT_DAYS, SIGNATURE, training_split, use_case

SPLIT = training_split(rows_per_day=60)


def test_a_package_holds_graph_signature_card_and_reference() -> None:
    scores = np.linspace(0, 1, SPLIT.holdout.num_rows)
    card = describe(use_case(), SIGNATURE, SPLIT, {"auc": 0.7}, role="champion")
    files = package(use_case(), b"graph", SIGNATURE, SPLIT, scores, card)
    assert files[MODEL] == b"graph"
    assert Signature.from_bytes(files[Signature.FILE]) == SIGNATURE
    read = json.loads(files[CARD])
    assert read["measured_on"] == {
        "rows": SPLIT.holdout.num_rows,
        "first_partition": "2020-01-16",
        "last_partition": "2020-01-20",
    }
    # It is fitted on all rows, those it is measured on included.
    assert read["fitted_on"] == {
        "rows": SPLIT.train.num_rows + SPLIT.holdout.num_rows,
        "first_partition": "2020-01-01",
        "last_partition": "2020-01-20",
    }

    reference = Reference.from_files(files)
    assert set(reference.counts) == {*SIGNATURE.numeric, *SIGNATURE.categorical, "p_late", "is_late"}
    assert {REFERENCE_TABLE, REFERENCE_BINS} <= set(files)
    assert len(reference.history("rate")) == DAYS


def test_scores_on_rows_the_model_was_fitted_on_are_no_reference() -> None:
    files = package(use_case(), b"", SIGNATURE, SPLIT, np.full(SPLIT.holdout.num_rows, 0.5), {})
    history = Reference.from_files(files).history("p_late")
    assert len(history) == HOLDOUT_DAYS
    assert history.sum() == SPLIT.holdout.num_rows


def test_the_same_package_has_the_same_bytes() -> None:
    scores = np.linspace(0, 1, SPLIT.holdout.num_rows)
    one, other = (package(use_case(), b"", SIGNATURE, SPLIT, scores, {"b": 1, "a": 2}) for _ in range(2))
    assert one[REFERENCE_TABLE].equals(other[REFERENCE_TABLE])
    assert {name: one[name] for name in one if name != REFERENCE_TABLE} == {
        name: other[name] for name in other if name != REFERENCE_TABLE
    }


def test_labels_are_zero_or_one() -> None:
    assert set(pc.unique(SPLIT.train["is_late"]).to_pylist()) == {0, 1}
    assert set(SPLIT.holdout_labels.tolist()) == {0, 1}
