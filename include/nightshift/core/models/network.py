"""A network of dense layers as plain weights: the common form of linear models and perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPRegressor

from nightshift.core.arrays import Float32s


@dataclass(frozen=True)
class Layer:
    """`activation(values @ weights + bias)`: weights float32 [in, out], bias float32 [out]."""

    weights: Float32s
    bias: Float32s
    activation: Literal["relu", "identity"] = "identity"

    def __call__(self, values: Float32s) -> Float32s:
        """The layer's output for values [n, in]: [n, out]."""
        output = values @ self.weights + self.bias
        return np.maximum(output, np.float32(0)) if self.activation == "relu" else output


class Network(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Dense layers as the last step of a pipeline. `fit` does nothing: the layers come from a compressed network."""

    def __init__(self, layers: Sequence[Layer] = ()) -> None:
        self.layers = layers

    def __sklearn_is_fitted__(self) -> bool:
        return len(self.layers) > 0

    def fit(self, values: Any, target: Any = None) -> Network:  # noqa: ARG002
        """Do nothing; scikit-learn requires a `fit` of an estimator."""
        return self

    def predict(self, values: Any) -> Float32s:
        """Output of the last layer, float32 [n], as from MLPRegressor."""
        output = np.asarray(values, dtype=np.float32)
        for layer in self.layers:
            output = layer(output)
        return output[:, 0]


def layers_of(model: Any) -> list[Layer] | None:
    """The layers, up to log odds, of a fitted linear model, perceptron or Network; None for any other model."""
    if isinstance(model, Network):
        return list(model.layers)
    if isinstance(model, LogisticRegression | Ridge):
        weights = np.asarray(model.coef_, dtype=np.float32).reshape(1, -1).T
        return [Layer(weights, np.atleast_1d(np.asarray(model.intercept_, dtype=np.float32)))]
    if isinstance(model, MLPRegressor) and model.activation == "relu":
        last = len(model.coefs_) - 1
        return [
            Layer(weights.astype(np.float32), bias.astype(np.float32), "identity" if i == last else "relu")
            for i, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True))
        ]
    return None
