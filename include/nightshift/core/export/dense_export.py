"""Export of linear models and networks as an ONNX graph optimised for speed, with the scores of the pipeline.

A converter turns each step of a pipeline into nodes of its own: strings into one-hot columns, those and
the numbers into one wide matrix, that into a product. Here a category selects a row of the first layer's
weights instead (equal to a product with a one-hot row), nothing is concatenated, and scaling is
part of the weights. This doubles the rows per second of a linear model (`benchmarks/compression.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer

from nightshift.core.arrays import Float32s, Floats
from nightshift.core.inference.onnx_model import CATEGORICAL_INPUT, NUMERIC_INPUT, OUTPUT, Signature
from nightshift.core.models.network import Layer
from nightshift.core.models.preprocessing import BoundedScaler, PiecewiseLinearScaler

LARGEST_FOLDED_MEAN = 16.0
"""In standard deviations. With a mean farther from zero, float32 loses digits unless a column is centred first."""


class Graph:
    """Nodes and constants of a graph, in the order of their creation: equal models give equal bytes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """Add a constant and return its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def model(self, signature: Signature, opsets: dict[str, int]) -> onnx.ModelProto:
        """The graph with the inputs of a signature and the output `probability`."""
        inputs = [helper.make_tensor_value_info(NUMERIC_INPUT, TensorProto.FLOAT, [None, len(signature.numeric)])]
        if signature.categorical:
            shape = [None, len(signature.categorical)]
            inputs.append(helper.make_tensor_value_info(CATEGORICAL_INPUT, TensorProto.STRING, shape))
        outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1])]
        graph = helper.make_graph(self.nodes, "model", inputs, outputs, self.constants)
        imports = [helper.make_opsetid(domain, opset) for domain, opset in opsets.items()]
        return helper.make_model(graph, opset_imports=imports, ir_version=10, producer_name="nightshift")


def dense_graph(
    features: ColumnTransformer, layers: Sequence[Layer], signature: Signature, opsets: dict[str, int], *, folded: bool
) -> onnx.ModelProto:
    """The graph of fitted `features` (bounded_features or piecewise_linear_features) and layers up to log odds.

    With `folded`, scaling is part of the first layer's weights. Without, the inputs of the first product are
    standardised columns, as required by one int8 scale for all of them.
    """
    graph = Graph()
    first, *others = layers
    scaler: BoundedScaler = features.named_transformers_["numeric"]
    numeric = len(scaler.mean_) + len(scaler.indicated_)
    if isinstance(scaler, PiecewiseLinearScaler):
        numeric += scaler.knots_.size
    value = _numeric(graph, scaler, Layer(first.weights[:numeric], first.bias), folded)
    if signature.categorical:
        categories = features.named_transformers_["categorical"].categories_
        value = graph.node("Sum", [value, *category_rows(graph, categories, first.weights[numeric:])], "first_layer")
    value = _activated(graph, value, first, 1)
    for number, layer in enumerate(others, start=2):
        weights, bias = graph.constant(f"weights_{number}", layer.weights), graph.constant(f"bias_{number}", layer.bias)
        value = _activated(graph, graph.node("Gemm", [value, weights, bias], f"layer_{number}"), layer, number)
    graph.node("Sigmoid", [value], OUTPUT)
    return graph.model(signature, opsets)


def _activated(graph: Graph, value: str, layer: Layer, number: int) -> str:
    return graph.node("Relu", [value], f"activation_{number}") if layer.activation == "relu" else value


def _numeric(graph: Graph, scaler: BoundedScaler, layer: Layer, folded: bool) -> str:
    """Nodes for the numeric columns' contribution to the first layer, and its bias; the name of the last one."""
    width = len(scaler.mean_)
    mean, deviation = scaler.mean_.astype(np.float64), scaler.deviation_.astype(np.float64)
    centred = not folded or bool(np.any(np.abs(mean) > LARGEST_FOLDED_MEAN * deviation))
    origin = mean if centred else np.zeros(width)
    unit = deviation if folded else np.ones(width)

    value = NUMERIC_INPUT
    if centred:
        value = graph.node("Sub", [value, graph.constant("mean", scaler.mean_[None])], "centred")
    absent = graph.node("IsNaN", [value], "absent")
    filling = graph.constant("filling", np.zeros(1, np.float32) if centred else scaler.mean_[None])
    value = graph.node("Where", [absent, filling, value], "filled")
    # Rounding is monotone: centring first and bounding then gives the same float32 as the other way round.
    lower = scaler.lower_ - scaler.mean_ if centred else scaler.lower_
    upper = scaler.upper_ - scaler.mean_ if centred else scaler.upper_
    value = graph.node("Max", [value, graph.constant("lower", lower[None])], "bounded_below")
    value = graph.node("Min", [value, graph.constant("upper", upper[None])], "bounded")
    if not folded:
        value = graph.node("Div", [value, graph.constant("deviation", scaler.deviation_[None])], "scaled")

    weights = layer.weights.astype(np.float64)
    # Without centring, the product is of values from zero instead of from the mean: the bias corrects for it.
    bias = layer.bias - ((mean - origin) / deviation) @ weights[:width]
    knots: list[tuple[Floats, Floats]] = []
    if isinstance(scaler, PiecewiseLinearScaler):
        position = width + len(scaler.indicated_)
        for scaled_knots in scaler.knots_.astype(np.float64):
            knots.append(
                (scaled_knots * deviation + mean - origin if folded else scaled_knots, weights[position:][:width])
            )
            position += width
    # Distance beyond a knot = max(value, knot) - knot; the subtraction is part of the bias, too.
    bias = bias - sum(((at / unit) @ steepness for at, steepness in knots), np.zeros(weights.shape[1]))
    columns = graph.constant("weights_1", _per(weights[:width], unit))
    total = graph.node("Gemm", [value, columns, graph.constant("bias_1", bias.astype(np.float32))], "numbers")
    if len(scaler.indicated_):
        total = _indicators(graph, absent, scaler, layer.weights[width:][: len(scaler.indicated_)], total)
    for number, (at, steepness) in enumerate(knots, start=1):
        knot = graph.constant(f"knots_{number}", at.astype(np.float32)[None])
        beyond = graph.node("Max", [value, knot], f"beyond_{number}")
        steps = graph.constant(f"weights_beyond_{number}", _per(steepness, unit))
        total = graph.node("Gemm", [beyond, steps, total], f"numbers_to_knot_{number}")
    return total


def _per(weights: Floats, unit: Floats) -> Float32s:
    return np.asarray((weights / unit[:, None]).astype(np.float32))


def _indicators(graph: Graph, absent: str, scaler: BoundedScaler, weights: Float32s, total: str) -> str:
    """Nodes for the missing-value indicators. Selecting columns costs more than one narrow product."""
    if weights.shape[1] == 1:
        everywhere = np.zeros((len(scaler.mean_), 1), dtype=np.float32)
        everywhere[scaler.indicated_] = weights
        weights, chosen = everywhere, absent
    else:
        indicated = graph.constant("indicated", scaler.indicated_.astype(np.int64))
        chosen = graph.node("Gather", [absent, indicated], "absent_indicated", axis=1)
    indicators = graph.node("Cast", [chosen], "indicators", to=TensorProto.FLOAT)
    return graph.node("Gemm", [indicators, graph.constant("weights_absent", weights), total], "numbers_and_absences")


def category_rows(graph: Graph, categories: Sequence[npt.NDArray[np.object_]], weights: Float32s) -> list[str]:
    """Nodes that select, for each categorical column, its category's row of the first layer's weights; their names."""
    all_categories = sorted({str(category) for column in categories for category in column})
    # Row 0 is for categories unseen in training: they add nothing.
    number = {category: i for i, category in enumerate(all_categories, start=1)}
    labels = graph.node(
        "LabelEncoder",
        [CATEGORICAL_INPUT],
        "category_numbers",
        domain="ai.onnx.ml",
        keys_strings=all_categories,
        values_int64s=list(range(1, len(all_categories) + 1)),
        default_int64=0,
    )
    columns = [f"category_{i}" for i in range(len(categories))]
    if len(columns) > 1:
        graph.nodes.append(
            helper.make_node("Split", [labels], columns, name="columns", axis=1, num_outputs=len(columns))
        )
    else:
        columns = [labels]
    flat = graph.constant("flat", np.array([-1], dtype=np.int64))
    outputs, position = [], 0
    for i, (column, present) in enumerate(zip(columns, categories, strict=True)):
        rows = graph.node("Reshape", [column, flat], f"numbers_{i}")
        places = np.array([number[str(category)] for category in present], dtype=np.int64)
        size = len(all_categories)
        if weights.shape[1] > 1 and len(present) < size:
            # A row of weights for each category of this column only.
            place = np.zeros(size + 1, dtype=np.int64)
            place[places] = np.arange(1, len(present) + 1)
            rows = graph.node("Gather", [graph.constant(f"place_{i}", place), rows], f"rows_{i}")
            places, size = place[places], len(present)
        table = np.zeros((size + 1, weights.shape[1]), dtype=np.float32)
        table[places] = weights[position : position + len(present)]
        position += len(present)
        outputs.append(graph.node("Gather", [graph.constant(f"category_weights_{i}", table), rows], f"picked_{i}"))
    return outputs
