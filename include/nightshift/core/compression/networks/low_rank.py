"""Low-rank factorization: wide layers as products of two narrow ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular, svd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightshift.core.compression.networks.network_model import inputs_of, layers_to_change, log_odds, with_layers
from nightshift.core.compression.problem import Problem
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.network import Layer
from nightshift.declare.models import Hyperparameters, number, numbers
from nightshift.errors import NotApplicable

DEFAULTS: Hyperparameters = {"tolerance": 5e-3, "energies": (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)}
"""Log loss (nats) that the validation rows may lose; shares of a layer's variance to keep, tried in this order."""

LEAST_VARIANCE = 1e-6


def low_rank(model: FittedModel, problem: Problem) -> FittedModel:
    """Factorize layers by a singular value decomposition of their outputs for training rows.

    Weighting directions by the variance of the inputs along them loses less than the decomposition of the weights
    alone (DRONE, Chen et al., NeurIPS 2021). The smallest ranks are used at which the validation loss rises by
    no more than `tolerance`; a layer for which two factors are no smaller is not factorized.
    Raises NotApplicable for anything but a network, or if no layer gets smaller.
    """
    layers = layers_to_change(model)
    settings = problem.settings("low_rank", DEFAULTS)
    with threadpool_limits(limits=1, user_api="blas"):
        fitting_inputs = inputs_of(model, problem.train.take(problem.fitting))
        validation_inputs = inputs_of(model, problem.train.take(problem.validation))
        allowed = problem.validation_loss(log_odds(layers, validation_inputs)) + number(settings, "tolerance")
        for energy in numbers(settings, "energies"):
            smaller = _factorized(layers, fitting_inputs, energy)
            loss = problem.validation_loss(log_odds(smaller, validation_inputs))
            if len(smaller) > len(layers) and loss <= allowed:
                return with_layers(model, smaller)
    raise NotApplicable("NS-MODEL-009", "no layer can be written as two smaller ones within the tolerance")


def _factorized(layers: list[Layer], values: npt.NDArray[np.float32], energy: float) -> list[Layer]:
    factors: list[Layer] = []
    for layer in layers:
        factors += _factors(layer, values, energy)
        values = layer(values)
    return factors


def _factors(layer: Layer, values: npt.NDArray[np.float32], energy: float) -> list[Layer]:
    """The layer, or two layers with fewer weights, the first without bias and activation."""
    weights = layer.weights.astype(np.float64)
    wide = values.astype(np.float64)
    moment = wide.T @ wide / len(wide) + LEAST_VARIANCE * np.eye(len(weights))
    root = cholesky(moment)
    left, strengths, right = svd(root @ weights, full_matrices=False)
    kept = np.cumsum(strengths**2) / np.sum(strengths**2)
    rank = int(np.searchsorted(kept, energy)) + 1
    if rank * sum(weights.shape) >= weights.size:
        return [layer]
    narrow = solve_triangular(root, left[:, :rank] * strengths[:rank]).astype(np.float32)
    return [
        Layer(narrow, np.zeros(rank, dtype=np.float32)),
        Layer(right[:rank].astype(np.float32), layer.bias, layer.activation),
    ]
