"""Export of models with levels (LevelAdditive, LogOddsBlend) as ONNX graphs: operation by operation, in float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, compose

from nightshift.core.export.dense_export import Graph, category_rows
from nightshift.core.inference.onnx_model import NUMERIC_INPUT, OUTPUT, Signature
from nightshift.core.models.blend import LogOddsBlend
from nightshift.core.models.level_additive import LevelAdditive
from nightshift.core.models.preprocessing import BoundedScaler, PiecewiseLinearScaler

TREES = "trees_"
"""Prefix of the nodes of a blend's trees."""


def level_additive_graph(model: LevelAdditive, signature: Signature, opsets: dict[str, int]) -> onnx.ModelProto:
    """The graph of a fitted LevelAdditive."""
    graph = Graph()
    graph.node("Sigmoid", [_additive(graph, model, signature)], OUTPUT)
    return graph.model(signature, opsets)


def blend_graph(
    model: LogOddsBlend, trees: onnx.ModelProto, signature: Signature, opsets: dict[str, int]
) -> onnx.ModelProto:
    """The graph of a fitted LogOddsBlend. `trees` is the graph of its trees: the same inputs, a probability [n, 1]."""
    graph = Graph()
    additive = _additive(graph, model.additive, signature)
    renamed = compose.add_prefix(trees, TREES, rename_inputs=False).graph
    graph.nodes.extend(renamed.node)
    graph.constants.extend(renamed.initializer)
    positive = renamed.output[0].name
    one = graph.constant("one", np.ones(1, np.float32))
    negative = graph.node("Sub", [one, positive], "trees_on_time")
    odds = graph.node(
        "Sub", [graph.node("Log", [positive], "log_late"), graph.node("Log", [negative], "log_on_time")], "l"
    )
    additive_weight = np.array([model.scale * (1 - model.share)], np.float32)
    trees_weight = np.array([model.scale * model.share], np.float32)
    parts = [
        graph.node("Mul", [additive, graph.constant("share_additive", additive_weight)], "of_additive"),
        graph.node("Mul", [odds, graph.constant("share_trees", trees_weight)], "of_trees"),
    ]
    graph.node("Sigmoid", [graph.node("Add", parts, "blended")], OUTPUT)
    return graph.model(signature, opsets)


def _additive(graph: Graph, model: LevelAdditive, signature: Signature) -> str:
    """Nodes up to the log odds [n, 1] of a LevelAdditive; the name of the last one."""
    rows: PiecewiseLinearScaler = model.rows_.named_transformers_["numeric"]
    columns = _scaled(graph, rows, _picked(graph, signature, model.row_columns, "row"), "row")
    weights = model.row_weights_
    width = len(rows.mean_) * (1 + len(rows.knots_)) + len(rows.indicated_)
    bias = graph.constant("intercept", np.array([model.intercept_], np.float32))
    total = graph.node("Gemm", [columns, graph.constant("row_weights", weights[:width, None]), bias], "rows_numeric")
    if signature.categorical:
        categories = model.rows_.named_transformers_["categorical"].categories_
        total = graph.node("Sum", [total, *category_rows(graph, categories, weights[width:, None])], "rows")
    pieces, many = [], 0
    if model.level:
        pieces.append(_scaled(graph, model.level_scaler_, _picked(graph, signature, model.level, "level"), "level"))
        many = len(model.level_scaler_.mean_) * (1 + len(model.level_scaler_.knots_))
        many += len(model.level_scaler_.indicated_)
    for i, (name, values) in enumerate(zip(model.calendar, model.calendar_values_, strict=True)):
        if len(values):
            column = _picked(graph, signature, (name,), f"calendar_{i}")
            same = graph.node("Equal", [column, graph.constant(f"days_{i}", values[None])], f"calendar_{i}_is")
            pieces.append(graph.node("Cast", [same], f"calendar_{i}_known", to=TensorProto.FLOAT))
    if not pieces:
        return total
    level = graph.node("Concat", pieces, "levels", axis=1) if len(pieces) > 1 else pieces[0]
    everywhere = graph.constant("level_weights", np.ascontiguousarray(model.level_weights_[:, :1]))
    total = graph.node("Gemm", [level, everywhere, total], "rows_and_level")
    if model.tilt is None:
        return total
    # The tilt is the first of its scaler's columns: the others are missing-value indicators.
    tilt = _bounded(graph, model.tilt_scaler_, _picked(graph, signature, (model.tilt,), "tilt"), "tilt")
    by_tilt = graph.constant("tilt_weights", np.ascontiguousarray(model.level_weights_[:, 1:]))
    steep = graph.node("MatMul", [level, by_tilt], "tilt_of_level")
    return graph.node("Add", [total, graph.node("Mul", [steep, tilt], "tilted")], "log_odds")


def _picked(graph: Graph, signature: Signature, names: tuple[str, ...], prefix: str) -> str:
    positions = np.array([signature.numeric.index(name) for name in names], dtype=np.int64)
    return graph.node(
        "Gather", [NUMERIC_INPUT, graph.constant(f"{prefix}_columns", positions)], f"{prefix}_values", axis=1
    )


def _bounded(graph: Graph, scaler: BoundedScaler, values: str, prefix: str) -> str:
    """The scaled columns of BoundedScaler.transform, without its indicators."""
    mean = graph.constant(f"{prefix}_mean", scaler.mean_[None])
    absent = graph.node("IsNaN", [values], f"{prefix}_absent")
    value = graph.node("Where", [absent, mean, values], f"{prefix}_filled")
    value = graph.node("Max", [value, graph.constant(f"{prefix}_lower", scaler.lower_[None])], f"{prefix}_above")
    value = graph.node("Min", [value, graph.constant(f"{prefix}_upper", scaler.upper_[None])], f"{prefix}_bounded")
    value = graph.node("Sub", [value, mean], f"{prefix}_centred")
    return graph.node(
        "Div", [value, graph.constant(f"{prefix}_deviation", scaler.deviation_[None])], f"{prefix}_scaled"
    )


def _scaled(graph: Graph, scaler: PiecewiseLinearScaler, values: str, prefix: str) -> str:
    """All columns of PiecewiseLinearScaler.transform."""
    scaled = _bounded(graph, scaler, values, prefix)
    columns = [scaled]
    if len(scaler.indicated_):
        indicators = graph.node("Cast", [f"{prefix}_absent"], f"{prefix}_indicators", to=TensorProto.FLOAT)
        chosen = graph.constant(f"{prefix}_indicated", scaler.indicated_.astype(np.int64))
        columns.append(graph.node("Gather", [indicators, chosen], f"{prefix}_some", axis=1))
    zero = graph.constant(f"{prefix}_zero", np.zeros(1, np.float32))
    for number, knots in enumerate(scaler.knots_, start=1):
        knot = graph.constant(f"{prefix}_knots_{number}", knots[None])
        beyond = graph.node("Sub", [scaled, knot], f"{prefix}_less_{number}")
        columns.append(graph.node("Max", [beyond, zero], f"{prefix}_beyond_{number}"))
    return graph.node("Concat", columns, f"{prefix}_columns_scaled", axis=1) if len(columns) > 1 else scaled
