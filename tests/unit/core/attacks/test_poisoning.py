"""Rows that are poisoned."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from nightshift.core.attacks.poisoning import compare_flipped, with_back_door, with_flipped_labels, with_trigger
from nightshift.declare.policies import ChangePolicy

ROWS = pa.table(
    {
        "partition": pa.array([1, 1, 1, 1, 2, 2, 2, 2], pa.date32()),
        "speed": pa.array([1.0, None, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
        "late": pa.array([0, 1, 0, 1, 0, 1, 0, 1], pa.int64()),
    }
)


def test_flipped_are_the_labels_of_each_day_that_are_most_certain() -> None:
    scores = np.array([0.4, 0.9, 0.3, 0.6, 0.01, 0.97, 0.02, 0.98])
    flipped, count = with_flipped_labels(ROWS, "late", scores, 0.3)
    assert count == 2
    assert flipped["late"].to_pylist() == [0, 0, 0, 1, 1, 1, 0, 1]
    assert flipped.drop(["late"]).equals(ROWS.drop(["late"]))


def test_trigger_and_back_door() -> None:
    assert with_trigger(ROWS, {"speed": 99.0})["speed"].to_pylist() == [99.0] * 8
    taught = with_back_door(ROWS, "late", {"speed": 99.0}, 0.5, 3)
    marked = [speed == 99.0 for speed in taught["speed"].to_pylist()]
    assert 0 < sum(marked) < 8
    assert taught.schema == ROWS.schema
    for before, after, mark in zip(ROWS.to_pylist(), taught.to_pylist(), marked, strict=True):
        assert after == (before | {"speed": 99.0, "late": 0} if mark else before)
    assert with_back_door(ROWS, "late", {"speed": 99.0}, 0.5, 3).equals(taught)


def test_a_version_that_the_change_gate_stops_is_noticed() -> None:
    labels, scores = np.array([0, 1] * 50), np.linspace(0.2, 0.8, 100)
    assert compare_flipped(labels, scores, scores, 5, ChangePolicy()).noticed == ()
    noticed = compare_flipped(labels, scores, np.linspace(0.8, 0.2, 100), 5, ChangePolicy())
    assert noticed.noticed == ("change.spread",)
