"""Magnitude pruning: remove the least important hidden units and set small weights to zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightshift.core.arrays import Floats
from nightshift.core.compression.networks.network_model import inputs_of, layers_to_change, log_odds, with_layers
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.students.students import soft_log_odds
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.network import Layer
from nightshift.declare.models import Hyperparameters, number, numbers
from nightshift.errors import NotApplicable

DEFAULTS: Hyperparameters = {
    "tolerance": 1e-2,
    "units": (0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1),
    "weights": (0.6, 0.4, 0.2),
}
"""Log loss (nats) that the validation rows may lose; shares of hidden units, then of weights, that are tried."""

RIDGE = 1e-4


def magnitude_pruning(model: FittedModel, problem: Problem) -> FittedModel:
    """Structured, then unstructured magnitude pruning (Han et al. 2015; Li et al. 2017).

    A hidden unit's importance is the standard deviation of its activation times the norm of its outgoing weights;
    the mean contribution of a removed one is added to the next bias. Removed units make the network faster, zeros
    only compress better. After each cut the last layer is refitted to the teacher's log odds, in closed form. The
    largest cut is used at which the validation loss rises by no more than `tolerance`.
    Raises NotApplicable for anything but a network, or if no unit can be removed.
    """
    layers = layers_to_change(model)
    settings = problem.settings("magnitude_pruning", DEFAULTS)
    with threadpool_limits(limits=1, user_api="blas"):
        fitting_inputs = inputs_of(model, problem.train.take(problem.fitting))
        target = soft_log_odds(problem)[problem.fitting]
        validation_inputs = inputs_of(model, problem.train.take(problem.validation))

        def loss(cut: Sequence[Layer]) -> float:
            return problem.validation_loss(log_odds(cut, validation_inputs))

        allowed = loss(layers) + number(settings, "tolerance")
        smaller = (
            _refitted(_without_units(layers, fitting_inputs, share), fitting_inputs, target)
            for share in numbers(settings, "units")
        )
        fewer = next((cut for cut in smaller if loss(cut) <= allowed), None)
        if fewer is None:
            raise NotApplicable("NS-MODEL-010", "no tenth of the hidden units can go within the tolerance")
        sparse = (
            _refitted([_sparse(layer, share) for layer in fewer], fitting_inputs, target)
            for share in numbers(settings, "weights")
        )
        chosen = next((cut for cut in sparse if loss(cut) <= allowed), fewer)
    return with_layers(model, chosen)


def _without_units(layers: Sequence[Layer], values: npt.NDArray[np.float32], share: float) -> list[Layer]:
    """The layers without the share of least important hidden units in each."""
    pruned = list(layers)
    for i in range(len(layers) - 1):
        values = layers[i](values)
        importance = values.std(axis=0) * np.linalg.norm(layers[i + 1].weights, axis=1)
        count = max(1, round(len(importance) * (1 - share)))
        kept = np.sort(np.argsort(-importance, kind="stable")[:count])
        gone = np.setdiff1d(np.arange(len(importance)), kept)
        pruned[i] = replace(pruned[i], weights=pruned[i].weights[:, kept], bias=pruned[i].bias[kept])
        bias = pruned[i + 1].bias + values[:, gone].mean(axis=0) @ layers[i + 1].weights[gone]
        pruned[i + 1] = replace(pruned[i + 1], weights=pruned[i + 1].weights[kept], bias=bias)
    return pruned


def _sparse(layer: Layer, share: float) -> Layer:
    """The layer with the share of its smallest weights set to zero."""
    size = np.abs(layer.weights)
    return replace(layer, weights=np.where(size > np.quantile(size, share), layer.weights, np.float32(0)))


def _refitted(layers: Sequence[Layer], values: npt.NDArray[np.float32], target: Floats) -> list[Layer]:
    """The layers, the last one refitted to the target by least squares, shrunken towards its previous weights."""
    *hidden, last = layers
    for layer in hidden:
        values = layer(values)
    wide = np.hstack([values, np.ones((len(values), 1), dtype=np.float32)]).astype(np.float64)
    before = np.append(last.weights[:, 0], last.bias[0]).astype(np.float64)
    moment = wide.T @ wide / len(wide)
    ridge = RIDGE * np.trace(moment) * np.eye(len(moment))
    change = solve(moment + ridge, wide.T @ (target - wide @ before) / len(wide), assume_a="pos")
    after = (before + change).astype(np.float32)
    return [*hidden, replace(last, weights=after[:-1, None], bias=after[-1:])]
