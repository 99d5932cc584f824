"""Remove unreachable and redundant nodes and duplicate trees; scores stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nightshift.core.compression.problem import Problem
from nightshift.core.compression.trees.boosted_trees import (
    Ensemble,
    Leaf,
    Node,
    Split,
    read_ensemble,
    with_ensemble,
    with_leaves,
)
from nightshift.core.models.fitted import FittedModel

Reach = Mapping[int, tuple[float, float, bool]]
"""By feature: the values that reach a node lie in [from, below), and whether missing ones do."""

ANYTHING = (-np.inf, np.inf, True)


def clean_up(model: FittedModel, problem: Problem) -> FittedModel:  # noqa: ARG001
    """Drop branches that no value reaches, splits with equal children and duplicate trees.

    Scores differ by the rounding of float32 sums, at most by 1e-6. Functionally identical pruning in its
    local form; FIPE (Emine et al., AAAI 2025, arXiv:2408.16167) proves equality across trees with a solver,
    which takes too long for a nightly run. Raises NotApplicable for anything but boosted trees.
    """
    return with_ensemble(model, cleaned(read_ensemble(model)))


def cleaned(ensemble: Ensemble) -> Ensemble:
    """The ensemble with single-leaf trees added to its base margin, and trees of equal splits merged into one."""
    margin = ensemble.base_margin
    merged: dict[Node, Node] = {}
    for tree in ensemble.trees:
        reduced = _reduced(tree, {})
        if isinstance(reduced, Leaf):
            margin += float(reduced.value)
            continue
        # Equal for trees that split all rows in the same way.
        shape = with_leaves(reduced, lambda _: 0)
        merged[shape] = _sum(merged[shape], reduced) if shape in merged else reduced
    again = [_reduced(tree, {}) for tree in merged.values()]
    margin += sum(float(tree.value) for tree in again if isinstance(tree, Leaf))
    return Ensemble(tuple(tree for tree in again if isinstance(tree, Split)), margin)


def _reduced(node: Node, reach: Reach) -> Node:
    if isinstance(node, Leaf):
        return node
    threshold = float(node.threshold)
    lowest, below, missing = reach.get(node.feature, ANYTHING)
    goes_left = lowest < threshold or (missing and node.missing_left)
    goes_right = threshold < below or (missing and not node.missing_left)
    if not goes_right:
        return _reduced(node.left, reach)
    if not goes_left:
        return _reduced(node.right, reach)
    to_left = (lowest, min(below, threshold), missing and node.missing_left)
    to_right = (max(lowest, threshold), below, missing and not node.missing_left)
    left = _reduced(node.left, {**reach, node.feature: to_left})
    right = _reduced(node.right, {**reach, node.feature: to_right})
    return replace(left, cover=node.cover) if left == right else replace(node, left=left, right=right)


def _sum(one: Node, other: Node) -> Node:
    """The sum of two trees of one shape. Raises ValueError for different shapes."""
    if isinstance(one, Split) and isinstance(other, Split):
        return replace(one, left=_sum(one.left, other.left), right=_sum(one.right, other.right))
    if isinstance(one, Leaf) and isinstance(other, Leaf):
        return replace(one, value=np.float32(one.value + other.value))
    raise ValueError("trees of different shapes cannot be added up")
