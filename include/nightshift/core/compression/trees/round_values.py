"""Rounding of thresholds and leaf values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nightshift.core.arrays import Floats
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.trees.boosted_trees import (
    Leaf,
    Node,
    Split,
    leaf_ids,
    leaf_values,
    log_odds,
    nodes,
    read_ensemble,
    with_ensemble,
)
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.preprocessing import feature_frame
from nightshift.declare.models import number

DEFAULTS = {"tolerance": 1e-4}
"""Largest rise of the validation rows' log loss (nats) by rounded leaves."""

GRIDS = range(3, 13)
"""Leaves become multiples of 2^-g; coarser grids come first."""

MANTISSA_BITS = 24


def round_values(model: FittedModel, problem: Problem) -> FittedModel:
    """Round thresholds so that training rows reach the same leaves, and leaves to the coarsest grid within tolerance.

    Between the same two training values any threshold splits the rows alike, so the one with the fewest
    significant bits is used. XGBoost and ONNX write four bytes for any number: this saves space only
    where clean-up then finds equal leaves, or where the file is compressed. Raises NotApplicable
    for anything but boosted trees.
    """
    ensemble = read_ensemble(model)
    features = model.pipeline[:-1].transform(feature_frame(problem.train, model.signature))
    splits = [node for tree in ensemble.trees for node in nodes(tree) if isinstance(node, Split)]
    rounded = {}
    for feature in sorted({node.feature for node in splits}):
        column = np.unique(features[:, feature])
        values = column[~np.isnan(column)]
        for threshold in sorted({node.threshold for node in splits if node.feature == feature}):
            rounded[feature, threshold] = _shortest(values, threshold)

    leaves = leaf_ids(model, problem.train.take(problem.validation), problem.threads)

    def loss(grid: float | None) -> float:
        tables = (_on_grid(leaf_values(tree), grid) for tree in ensemble.trees)
        return problem.validation_loss(log_odds(ensemble.base_margin, tables, leaves))

    allowed = loss(None) + number(problem.settings("round_values", DEFAULTS), "tolerance")
    grid = next((2.0**-g for g in GRIDS if loss(2.0**-g) <= allowed), None)
    return with_ensemble(model, replace(ensemble, trees=tuple(_rounded(t, rounded, grid) for t in ensemble.trees)))


def _shortest(values: npt.NDArray[np.float32], threshold: np.float32) -> np.float32:
    """The number with the fewest significant bits that splits the values as the threshold does."""
    place = int(np.searchsorted(values, threshold, side="left"))
    if place in (0, len(values)):
        return threshold
    below, above = float(values[place - 1]), float(values[place])
    for bits in range(1, MANTISSA_BITS):
        fraction, exponent = np.frexp(above)
        step = 2.0 ** (int(exponent) - bits)
        candidate = np.float32(np.floor(above / step) * step)
        if below < candidate <= above and fraction != 0:
            return candidate
        if above == 0:
            return np.float32(0)
    return threshold


def _on_grid(values: Floats, grid: float | None) -> Floats:
    return values if grid is None else np.round(values / grid) * grid


def _rounded(node: Node, thresholds: Mapping[tuple[int, np.float32], np.float32], grid: float | None) -> Node:
    if isinstance(node, Leaf):
        return node if grid is None else replace(node, value=np.float32(np.round(float(node.value) / grid) * grid))
    left, right = _rounded(node.left, thresholds, grid), _rounded(node.right, thresholds, grid)
    return replace(node, threshold=thresholds[node.feature, node.threshold], left=left, right=right)
