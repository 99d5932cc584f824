"""Cost-complexity pruning of trees under a bound on the validation loss."""

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
    log_odds,
    nodes,
    read_ensemble,
    with_ensemble,
)
from nightshift.core.models.fitted import FittedModel
from nightshift.declare.models import number
from nightshift.errors import NotApplicable

DEFAULTS = {"tolerance": 3e-3}
"""Log loss (nats) that the validation rows may lose."""

HALVINGS = 12
PRICES = (1e-9, 1e-2)
"""Log loss that one leaf may cost, smallest and largest."""


@dataclass(frozen=True)
class _Measured:
    """Arrays over a tree's nodes, by their number: the value of a leaf that replaces the subtree, and the rise of
    the validation rows' log loss that this would cause."""

    tree: Node
    value: Floats
    cost: Floats


def prune_trees(model: FittedModel, problem: Problem) -> FittedModel:
    """Weakest-link pruning (Breiman et al. 1984) over all trees of the ensemble at once.

    A subtree becomes a leaf with the mean of its rows' values, weighted by their hessian;
    the cost is estimated to second order on the validation rows. One price per leaf holds for
    all trees, as in ForestPrune (Liu and Mazumder, AISTATS 2023, arXiv:2206.00128), which prunes by depth: the
    highest at which the exact log loss rises by no more than `tolerance`.
    Raises NotApplicable for anything but boosted trees, or if nothing can be pruned.
    """
    ensemble = read_ensemble(model)
    tolerance = number(problem.settings("prune_trees", DEFAULTS), "tolerance")
    measured = _measure(model, ensemble, problem, problem.labels[problem.validation])
    leaves = leaf_ids(model, problem.train.take(problem.validation), problem.threads)

    def loss(pruned: Ensemble) -> float:
        tables = map(_pruned_values, ensemble.trees, pruned.trees)
        return problem.validation_loss(log_odds(pruned.base_margin, tables, leaves))

    allowed = loss(ensemble) + tolerance

    def affordable(price: float) -> bool:
        return loss(_pruned(ensemble, measured, price)) <= allowed

    if not affordable(PRICES[0]):
        raise NotApplicable("NS-MODEL-021", f"even the cheapest pruning costs more than {tolerance:g} of log loss")
    low, high = (float(np.log(price)) for price in PRICES)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if affordable(float(np.exp(middle))) else (low, middle)
    pruned = _pruned(ensemble, measured, float(np.exp(low)))
    if sum(len(nodes(tree)) for tree in pruned.trees) == sum(len(nodes(tree)) for tree in ensemble.trees):
        raise NotApplicable("NS-MODEL-022", f"no subtree can go without costing more than {tolerance:g} of log loss")
    return with_ensemble(model, pruned)


def _measure(
    model: FittedModel, ensemble: Ensemble, problem: Problem, labels: npt.NDArray[np.int64]
) -> list[_Measured]:
    fitting, validation = problem.train.take(problem.fitting), problem.train.take(problem.validation)
    fitting_ids, validation_ids = (leaf_ids(model, rows, problem.threads) for rows in (fitting, validation))
    fitting_p, validation_p = model.probability(fitting), model.probability(validation)
    gradient, hessian = validation_p - labels, validation_p * (1 - validation_p)
    measurements = []
    for i, tree in enumerate(ensemble.trees):
        table = leaf_values(tree)
        size = max(node.id for node in nodes(tree)) + 1
        mass = np.bincount(fitting_ids[:, i], weights=fitting_p * (1 - fitting_p), minlength=size)
        leaf_value = table[validation_ids[:, i]]
        sums = np.array(
            [
                np.bincount(validation_ids[:, i], weights=weights, minlength=size)
                for weights in (gradient, hessian, gradient * leaf_value, hessian * leaf_value, hessian * leaf_value**2)
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
            # Nodes without fitting rows use the covers of the rows that the tree was grown on.
            grown = (value[left] * node.left.cover + value[right] * node.right.cover) / max(node.cover, 1e-12)
            value[node.id] = weighted[node.id] / mass[node.id] if mass[node.id] > 0 else grown
        g, h, gf, hf, hff = sums
        cost = value * g - gf + (value**2 * h - 2 * value * hf + hff) / 2
        measurements.append(_Measured(tree, value, cost / len(labels)))
    return measurements


def _pruned(ensemble: Ensemble, measured: Sequence[_Measured], price: float) -> Ensemble:
    """The pruned ensemble for a price per leaf: of each tree the subtree with the least cost plus price of leaves."""
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


def _pruned_values(original: Node, pruned: Node) -> Floats:
    """For each leaf of the original tree, by its number, the value of the leaf that replaces it in the pruned one."""
    table = np.zeros(max(node.id for node in nodes(original)) + 1)
    pairs = [(original, pruned)]
    for node, smaller in pairs:
        if isinstance(node, Split) and isinstance(smaller, Split):
            pairs += [(node.left, smaller.left), (node.right, smaller.right)]
        elif isinstance(smaller, Leaf):
            table[[below.id for below in nodes(node)]] = smaller.value
    return table
