"""The layers of a fitted network, their inputs, and the model with other layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from sklearn.pipeline import Pipeline

from nightshift.core.arrays import Float32s, Floats
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.network import Layer, Network, layers_of
from nightshift.core.models.preprocessing import feature_frame
from nightshift.errors import NotApplicable


def layers_to_change(model: FittedModel) -> list[Layer]:
    """The layers of a network. Raises NotApplicable for trees, linear models and quantized networks."""
    layers = layers_of(model.pipeline[-1])
    if model.graph is not None:
        raise NotApplicable(
            "NS-MODEL-011", "the network is quantized already: its weights are no longer free to change"
        )
    if layers is None or len(layers) < 2:
        raise NotApplicable(
            "NS-MODEL-012", f"this is for networks with hidden layers, and the model is {type(model.pipeline[-1])}"
        )
    return layers


def inputs_of(model: FittedModel, rows: pa.Table) -> Float32s:
    """Inputs of the first layer for rows: float32 [n, in]."""
    return np.asarray(model.pipeline[:-1].transform(feature_frame(rows, model.signature)), dtype=np.float32)


def with_layers(model: FittedModel, layers: Sequence[Layer]) -> FittedModel:
    """The model with its layers replaced."""
    pipeline = Pipeline([("features", model.pipeline[0]), ("model", Network(layers))])
    return replace(model, pipeline=pipeline, output="log odds")


def log_odds(layers: Sequence[Layer], values: Float32s) -> Floats:
    """Log odds that the layers give for the inputs [n, in] of the first one: float64 [n]."""
    for layer in layers:
        values = layer(values)
    return values[:, 0].astype(np.float64)
