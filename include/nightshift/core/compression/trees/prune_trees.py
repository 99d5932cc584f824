"""Collapse subtrees that the validation rows do not miss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nightshift.core.arrays import Floats
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.trees.boosted_trees import (
    Ensemble,
    Leaf,
    Node,
    Split,
    leaf_ids,
    leaf_values,
    nodes,
    read_ensemble,
    with_ensemble,
)
from nightshift.core.models.estimators import FittedModel
from nightshift.core.models.evaluation import log_loss
from nightshift.errors import NotApplicable

DEFAULTS = {"tolerance": 3e-3}
"""Log loss (nats) that the validation rows may lose."""

HALVINGS = 12
PRICES = (1e-9, 1e-2)
"""Log loss that one leaf may cost, smallest and largest."""


@dataclass(frozen=True)
class _Measured:
    """What is known of a tree's nodes, by their number: the value of a leaf in a subtree's place, and what that
    would add to the log loss of the validation rows, against leaving the subtree as it is."""

    tree: Node
    value: Floats
    cost: Floats


def prune_trees(model: FittedModel, problem: Problem) -> FittedModel:
    """Weakest-link pruning (Breiman et al. 1984) over all trees of the ensemble at once.

    A subtree becomes a leaf with the mean of what its rows got from it, each weighing as in the loss;
    what that costs is estimated to second order on the validation rows. One price per leaf holds for
    all trees, as in ForestPrune (Liu and Mazumder, AISTATS 2023, arXiv:2206.00128), which prunes by depth: the
    highest at which the log loss, then truly computed, grows by no more than `tolerance`.
    Raises NotApplicable for anything but boosted trees, or if nothing can go.
    """
    ensemble = read_ensemble(model)
    tolerance = problem.settings("prune_trees", DEFAULTS)["tolerance"]
    judging, labels = problem.train.take(problem.validation), problem.labels[problem.validation]
    measured = _measure(model, ensemble, problem, labels)
    found = leaf_ids(model, judging, problem.threads)
    allowed = _loss(ensemble, ensemble, found, labels) + tolerance

    def affordable(price: float) -> bool:
        return bool(_loss(ensemble, _pruned(ensemble, measured, price), found, labels) <= allowed)

    if not affordable(PRICES[0]):
        raise NotApplicable(f"even the cheapest pruning costs more than {tolerance:g} of log loss")
    low, high = (float(np.log(price)) for price in PRICES)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if affordable(float(np.exp(middle))) else (low, middle)
    pruned = _pruned(ensemble, measured, float(np.exp(low)))
    if sum(len(nodes(tree)) for tree in pruned.trees) == sum(len(nodes(tree)) for tree in ensemble.trees):
        raise NotApplicable(f"no subtree can go without costing more than {tolerance:g} of log loss")
    return with_ensemble(model, pruned)


def _measure(
    model: FittedModel, ensemble: Ensemble, problem: Problem, labels: npt.NDArray[np.int64]
) -> list[_Measured]:
    fitting, judging = problem.train.take(problem.fitting), problem.train.take(problem.validation)
    fitting_ids, judging_ids = (leaf_ids(model, rows, problem.threads) for rows in (fitting, judging))
    fitting_p, judging_p = model.probability(fitting), model.probability(judging)
    gradient, hessian = judging_p - labels, judging_p * (1 - judging_p)
    found = []
    for i, tree in enumerate(ensemble.trees):
        table = leaf_values(tree)
        size = max(node.id for node in nodes(tree)) + 1
        mass = np.bincount(fitting_ids[:, i], weights=fitting_p * (1 - fitting_p), minlength=size)
        given = table[judging_ids[:, i]]
        sums = np.array(
            [
                np.bincount(judging_ids[:, i], weights=weights, minlength=size)
                for weights in (gradient, hessian, gradient * given, hessian * given, hessian * given**2)
            ]
        )
        value, weighted = np.zeros(size), np.zeros(size)
        for node in reversed(nodes(tree)):
            if isinstance(node, Leaf):
                value[node.id], weighted[node.id] = node.value, mass[node.id] * node.value
                continue
            left, right = node.left.id, node.right.id
            mass[node.id] = mass[left] + mass[right]
            weighted[node.id] = weighted[left] + weighted[right]
            sums[:, node.id] = sums[:, left] + sums[:, right]
            # Where no row of those looked at falls, the rows that the tree was grown on decide.
            grown = (value[left] * node.left.cover + value[right] * node.right.cover) / max(node.cover, 1e-12)
            value[node.id] = weighted[node.id] / mass[node.id] if mass[node.id] > 0 else grown
        g, h, gf, hf, hff = sums
        cost = value * g - gf + (value**2 * h - 2 * value * hf + hff) / 2
        found.append(_Measured(tree, value, cost / len(labels)))
    return found


def _pruned(ensemble: Ensemble, measured: Sequence[_Measured], price: float) -> Ensemble:
    """The ensemble whose leaves are worth their price: for each tree the subtree of least cost plus price per leaf."""
    return Ensemble(tuple(_cheapest(m, m.tree, price)[0] for m in measured), ensemble.base_margin)


def _cheapest(measured: _Measured, node: Node, price: float) -> tuple[Node, float]:
    if isinstance(node, Leaf):
        return node, price
    left, left_cost = _cheapest(measured, node.left, price)
    right, right_cost = _cheapest(measured, node.right, price)
    collapsed = float(measured.cost[node.id]) + price
    if collapsed <= left_cost + right_cost:
        return Leaf(np.float32(measured.value[node.id]), node.cover, node.id), collapsed
    return replace(node, left=left, right=right), left_cost + right_cost


def _loss(original: Ensemble, pruned: Ensemble, found: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> float:
    """Log loss of an ensemble pruned from `original`, whose leaves `found` names for each row."""
    margin = np.full(len(labels), pruned.base_margin)
    for i, (tree, smaller) in enumerate(zip(original.trees, pruned.trees, strict=True)):
        margin += _answers(tree, smaller)[found[:, i]]
    return log_loss(labels, 1 / (1 + np.exp(-margin)))


def _answers(original: Node, pruned: Node) -> Floats:
    """By the number of each leaf of the original tree, the value of the leaf that the pruned one has there."""
    table = np.zeros(max(node.id for node in nodes(original)) + 1)
    pairs = [(original, pruned)]
    for node, smaller in pairs:
        if isinstance(node, Split) and isinstance(smaller, Split):
            pairs += [(node.left, smaller.left), (node.right, smaller.right)]
        elif isinstance(smaller, Leaf):
            table[[below.id for below in nodes(node)]] = smaller.value
    return table
