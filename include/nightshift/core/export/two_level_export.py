"""Export of a TwoLevel as an ONNX graph: operation by operation, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from nightshift.core.export.dense_export import Graph, category_rows
from nightshift.core.export.level_export import bounded, calendar_indicators, picked, piecewise
from nightshift.core.inference.onnx_model import OUTPUT, Signature
from nightshift.core.models.two_level import LevelProcess, TwoLevel


def two_level_graph(model: TwoLevel, signature: Signature, opsets: dict[str, int]) -> onnx.ModelProto:
    """The graph of a fitted TwoLevel."""
    graph = Graph()
    ranks, places = _ranker(graph, model, signature)
    levels, squares = None, ""
    if model.level:
        levels = bounded(graph, model.level_scaler_, picked(graph, signature, model.level, "level"), "level")
        axes = graph.constant("columns", np.array([1]))
        squares = graph.node("ReduceSumSquare", [levels, axes], "squares", keepdims=1)
    indicators = _joined(
        graph, calendar_indicators(graph, signature, model.calendar, model.calendar_values_) + places, "indicators"
    )
    tilt = None
    if model.tilt is not None:
        # The tilt is the first of its scaler's columns: the others are missing-value indicators.
        tilt = bounded(graph, model.tilt_scaler_, picked(graph, signature, (model.tilt,), "tilt"), "tilt")
    mean, variance = ranks, graph.constant("ranker_variance", np.zeros((1, 1), np.float32))
    for number, process in enumerate(model.processes_):
        own_mean, own_variance = _moments(graph, process, levels, squares, indicators, f"process_{number}")
        if number and tilt is not None:
            own_mean = graph.node("Mul", [own_mean, tilt], "slope_times_tilt")
            square = graph.node("Mul", [tilt, tilt], "tilt_square")
            own_variance = graph.node("Mul", [own_variance, square], "slope_variance")
        mean = graph.node("Add", [mean, own_mean], f"mean_{number}")
        variance = graph.node("Add", [variance, own_variance], f"variance_{number}")
    widened = graph.node("Mul", [variance, graph.constant("pi_eighth", np.array([np.pi / 8], np.float32))], "widened")
    one = graph.constant("one", np.ones(1, np.float32))
    divisor = graph.node("Sqrt", [graph.node("Add", [widened, one], "one_and_widened")], "divisor")
    graph.node("Sigmoid", [graph.node("Div", [mean, divisor], "log_odds")], OUTPUT)
    return graph.model(signature, opsets)


def _ranker(graph: Graph, model: TwoLevel, signature: Signature) -> tuple[str, list[str]]:
    """Nodes for the row-level part of the log odds [n, 1], and for the one-hot places [n, c] if there are any."""
    scaler = model.rows_.named_transformers_["numeric"]
    columns = piecewise(graph, scaler, picked(graph, signature, model.row_columns, "row"), "row")
    width = len(scaler.mean_) * (1 + len(scaler.knots_)) + len(scaler.indicated_)
    weights, bias = model.row_weights_, graph.constant("intercept", np.array([model.intercept_], np.float32))
    total = graph.node("Gemm", [columns, graph.constant("row_weights", weights[:width, None]), bias], "rows_numeric")
    if not model.categorical:
        return total, []
    # A category selects its weight, and its one-hot columns if it is a place.
    categories = model.categories
    ends = np.cumsum([len(column) for column in categories])
    at = [model.categorical.index(name) for name in model.place]
    hot = [np.eye(ends[-1], dtype=np.float32)[:, ends[i] - len(categories[i]) : ends[i]] for i in at]
    table = np.hstack([weights[width:, None], *hot]).astype(np.float32)
    rows = graph.node("Sum", category_rows(graph, categories, table), "by_category")
    if not hot:
        return graph.node("Add", [total, rows], "rows"), []
    sizes = graph.constant("sizes", np.array([1, table.shape[1] - 1]))
    graph.nodes.append(helper.make_node("Split", [rows, sizes], ["rows_categorical", "places"], name="split", axis=1))
    return graph.node("Add", [total, "rows_categorical"], "rows"), ["places"]


def _moments(
    graph: Graph, process: LevelProcess, levels: str | None, squares: str, indicators: str | None, prefix: str
) -> tuple[str, str]:
    """Nodes for LevelProcess.moments: mean and variance [n, 1]."""

    def constant(name: str, value: object) -> str:
        return graph.constant(f"{prefix}_{name}", np.atleast_1d(np.asarray(value, dtype=np.float32)))

    def node(operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        return graph.node(operator, inputs, f"{prefix}_{name}", **attributes)

    if levels is None:
        near = constant("near", np.ones((1, process.levels_.shape[1])))
    else:
        products = node("MatMul", [levels, constant("levels", -2 * process.levels_)], "products")
        distance = node("Sum", [squares, constant("squares", process.squares_), products], "distance")
        distance = node("Max", [distance, constant("zero", 0)], "distance_from_zero")
        near = node("Exp", [node("Mul", [distance, constant("steepness", process.steepness_)], "exponent")], "near")
    both = node("Gemm", [near, constant("weights", process.weights_), constant("bias", process.bias_)], "of_levels")
    variance, axes = constant("noise", process.noise_), graph.constant(f"{prefix}_axes", np.array([1]))
    if indicators is not None:
        both = node("Gemm", [indicators, constant("indicators", process.indicator_weights_), both], "both")
        count = node("ReduceSumSquare", [indicators, axes], "indicators_square", keepdims=1)
        of_calendar = node("Mul", [count, constant("cal", process.cal_)], "calendar_variance")
        variance = node("Add", [of_calendar, variance], "prior_variance")
    sizes = graph.constant(f"{prefix}_sizes", np.array([1, process.weights_.shape[1] - 1]))
    mean, projected = f"{prefix}_mean", f"{prefix}_projected"
    graph.nodes.append(helper.make_node("Split", [both, sizes], [mean, projected], name=f"{prefix}_split", axis=1))
    known = node("ReduceSumSquare", [projected, axes], "known", keepdims=1)
    return mean, node("Max", [node("Sub", [variance, known], "unknown"), constant("none", 0)], "variance")


def _joined(graph: Graph, parts: list[str], name: str) -> str | None:
    return graph.node("Concat", parts, name, axis=1) if parts else None
