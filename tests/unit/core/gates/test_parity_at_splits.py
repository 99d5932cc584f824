"""Exports that are right about nearly every row, and wrong at a split, for a missing value or for a category."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import onnx
import pytest

from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.gates.parity import compare, probe_rows
from nightshift.core.gates.split_probes import SIDES, split_probes
from nightshift.core.inference.onnx_model import load_session, score
from nightshift.core.models.fitted import FittedModel
from support.fitting import attribute, damaged, fit
from support.model_parity import ParityError, check_parity
from support.synthetic_training_set import NUMERIC, SIGNATURE, training_split

SPLIT = training_split()
TOLERANCE = 1e-5


@cache
def fitted(name: str = "xgboost") -> FittedModel:
    return fit(name, SPLIT)


def answers(graph: bytes) -> Any:
    return partial(score, load_session(graph), SIGNATURE)


def spoilt(damage: Callable[[onnx.GraphProto], None]) -> bytes:
    return damaged(export_onnx(fitted()), damage)


def test_each_split_has_a_row_at_it_and_one_to_either_side() -> None:
    found = split_probes(fitted(), SPLIT.holdout)
    tables = fitted().pipeline[-1].get_booster().trees_to_dataframe()
    inner = tables[(tables.Feature != "Leaf") & tables.Feature.str[1:].str.isdigit()]
    numeric = inner[inner.Feature.str[1:].astype(int) < len(NUMERIC)]
    assert found.splits == found.probed == len(numeric) > 50
    assert found.rows.num_rows == len(found.strangeness) == 3 * found.splits
    assert found.reached > 0.95 * found.splits
    assert "every split" in found.coverage
    thresholds = set(numeric.Split.astype(np.float32))
    for side, kind in zip((-np.inf, None, np.inf), SIDES, strict=True):
        for name in ("rate", "wind"):
            asked = np.array([why == f"{name} {kind}" for why in found.strangeness])
            values = found.rows[name].to_numpy()[asked].astype(np.float32)
            back = values if side is None else np.nextafter(values, np.float32(-side))
            assert len(values)
            assert set(back) <= thresholds
    assert found.rows.schema == SPLIT.holdout.schema


def test_split_probes_cover_every_feature() -> None:
    everything = split_probes(fitted(), SPLIT.holdout)
    found = split_probes(fitted(), SPLIT.holdout, most_splits=12)
    assert found.probed == 12
    assert f"12 of {everything.splits} splits" in found.coverage
    features = {why.split()[0] for why in everything.strangeness}
    assert {why.split()[0] for why in found.strangeness} == features


def test_a_model_without_trees_has_no_splits() -> None:
    found = split_probes(fitted("logistic_regression"), SPLIT.holdout)
    assert (found.splits, found.rows.num_rows, found.coverage) == (0, 0, "no splits")


@pytest.mark.parametrize("nodes", [1, 10_000])
def test_split_probes_find_a_threshold_off_by_one_float32(nodes: int) -> None:
    def shift(graph: onnx.GraphProto) -> None:
        values, modes = attribute(graph, "nodes_values").floats, attribute(graph, "nodes_modes").strings
        features = attribute(graph, "nodes_featureids").ints
        inner = [i for i, mode in enumerate(modes) if mode != b"LEAF" and features[i] == NUMERIC.index("rate")]
        for i in inner[:nodes]:
            values[i] = np.nextafter(np.float32(values[i]), np.float32(np.inf))

    broken = answers(spoilt(shift))
    strange = probe_rows(SPLIT.holdout, SIGNATURE)
    check_parity(fitted().probability, broken, strange, TOLERANCE, what="without splits")
    at_splits = split_probes(fitted(), SPLIT.holdout)
    probes = strange.followed_by(at_splits.rows, at_splits.strangeness)
    with pytest.raises(ParityError, match=r"flight=.*\(rate (at|just above) a split\): 0\.\d+ became 0\.\d+"):
        check_parity(fitted().probability, broken, probes, TOLERANCE, what="off", key=("flight_date", "flight"))


def test_less_instead_of_less_or_equal_is_found() -> None:
    def relax(graph: onnx.GraphProto) -> None:
        modes = attribute(graph, "nodes_modes").strings
        modes[:] = [b"BRANCH_LEQ" if mode == b"BRANCH_LT" else mode for mode in modes]

    at_splits = split_probes(fitted(), SPLIT.holdout)
    probes = probe_rows(SPLIT.holdout, SIGNATURE).followed_by(at_splits.rows, at_splits.strangeness)
    with pytest.raises(ParityError, match="at a split"):
        check_parity(fitted().probability, answers(spoilt(relax)), probes, TOLERANCE, what="relaxed")


def test_categories_in_another_order_are_found() -> None:
    def swap(graph: onnx.GraphProto) -> None:
        carriers = attribute(graph, "cats_strings").strings
        carriers[:] = list(carriers)[::-1]

    probes = probe_rows(SPLIT.holdout, SIGNATURE)
    with pytest.raises(ParityError, match="as delivered"):
        check_parity(fitted().probability, answers(spoilt(swap)), probes, TOLERANCE, what="swapped")


def test_infinite_and_finer_numbers_are_among_the_strange_ones() -> None:
    probes = probe_rows(SPLIT.holdout, SIGNATURE)
    for kind in ("infinite", "negatively infinite", "beyond float32", "finer than float32"):
        assert {f"{name} {kind}" for name in NUMERIC} <= set(probes.strangeness)


def test_another_number_of_answers_is_no_parity() -> None:
    probes = probe_rows(SPLIT.holdout, SIGNATURE)
    expected = fitted().probability(probes.rows)
    compared = compare(expected, np.repeat(expected, 2), probes, TOLERANCE, "two columns")
    assert "one probability for each row" in compared.wrong
    assert compared.largest is None
