"""Export of models with levels (LevelAdditive, LogOddsBlend) as ONNX graphs: operation by operation, in float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose

from nightshift.core.export.dense_export import Graph, category_rows
from nightshift.core.inference.onnx_model import NUMERIC_INPUT, OUTPUT, Signature
from nightshift.core.models.blend import LogOddsBlend
from nightshift.core.models.level_additive import LevelAdditive
from nightshift.core.models.preprocessing import BoundedScaler, PiecewiseLinearScaler


def level_additive_graph(model: LevelAdditive, signature: Signature, opsets: dict[str, int]) -> onnx.ModelProto:
    """The graph of a fitted LevelAdditive."""
    graph = Graph()
    graph.node("Sigmoid", [_additive(graph, model, signature)], OUTPUT)
    return graph.model(signature, opsets)


def blend_graph(
    model: LogOddsBlend,
    trees: onnx.ModelProto,
    two_level: onnx.ModelProto | None,
    signature: Signature,
    opsets: dict[str, int],
) -> onnx.ModelProto:
    """The graph of a fitted LogOddsBlend from those of its trees and its two-level model, if it has one.

    Those have the blend's inputs and return a probability [n, 1].
    """
    graph = Graph()
    rest = model.scale * (1 - model.two_level_share)
    members = [
        (_additive(graph, model.additive, signature), rest * (1 - model.share), "additive"),
        (_log_odds(graph, trees, "trees"), rest * model.share, "trees"),
    ]
    if two_level is not None:
        members.append((_log_odds(graph, two_level, "two_level"), model.two_level_share, "two_level"))
    parts = [
        graph.node("Mul", [value, graph.constant(f"share_{name}", np.array([weight], np.float32))], f"of_{name}")
        for value, weight, name in members
    ]
    graph.node("Sigmoid", [graph.node("Sum", parts, "blended")], OUTPUT)
    return graph.model(signature, opsets)


def _log_odds(graph: Graph, member: onnx.ModelProto, name: str) -> str:
    """The nodes of a member's graph, their names prefixed, and its log odds [n, 1]; the name of the last one."""
    renamed = compose.add_prefix(member, f"{name}_", rename_inputs=False).graph
    graph.nodes.extend(renamed.node)
    graph.constants.extend(renamed.initializer)
    positive = renamed.output[0].name
    one = graph.constant(f"{name}_certain", np.ones(1, np.float32))
    negative = graph.node("Sub", [one, positive], f"{name}_on_time")
    logarithms = [
        graph.node("Log", [positive], f"{name}_log_late"),
        graph.node("Log", [negative], f"{name}_log_on_time"),
    ]
    return graph.node("Sub", logarithms, f"{name}_odds")


def _additive(graph: Graph, model: LevelAdditive, signature: Signature) -> str:
    """Nodes up to the log odds [n, 1] of a LevelAdditive; the name of the last one."""
    rows: PiecewiseLinearScaler = model.rows_.named_transformers_["numeric"]
    columns = piecewise(graph, rows, picked(graph, signature, model.row_columns, "row"), "row")
    weights = model.row_weights_
    width = len(rows.mean_) * (1 + len(rows.knots_)) + len(rows.indicated_)
    bias = graph.constant("intercept", np.array([model.intercept_], np.float32))
    total = graph.node("Gemm", [columns, graph.constant("row_weights", weights[:width, None]), bias], "rows_numeric")
    if signature.categorical:
        categories = model.rows_.named_transformers_["categorical"].categories_
        total = graph.node("Sum", [total, *category_rows(graph, categories, weights[width:, None])], "rows")
    pieces, many = [], 0
    if model.level:
        pieces.append(piecewise(graph, model.level_scaler_, picked(graph, signature, model.level, "level"), "level"))
        many = len(model.level_scaler_.mean_) * (1 + len(model.level_scaler_.knots_))
        many += len(model.level_scaler_.indicated_)
    pieces += calendar_indicators(graph, signature, model.calendar, model.calendar_values_)
    if not pieces:
        return total
    level = graph.node("Concat", pieces, "levels", axis=1) if len(pieces) > 1 else pieces[0]
    everywhere = graph.constant("level_weights", np.ascontiguousarray(model.level_weights_[:, :1]))
    total = graph.node("Gemm", [level, everywhere, total], "rows_and_level")
    if model.tilt is None:
        return total
    # The tilt is the first of its scaler's columns: the others are missing-value indicators.
    tilt = bounded(graph, model.tilt_scaler_, picked(graph, signature, (model.tilt,), "tilt"), "tilt")
    by_tilt = graph.constant("tilt_weights", np.ascontiguousarray(model.level_weights_[:, 1:]))
    steep = graph.node("MatMul", [level, by_tilt], "tilt_of_level")
    return graph.node("Add", [total, graph.node("Mul", [steep, tilt], "tilted")], "log_odds")


def calendar_indicators(
    graph: Graph, signature: Signature, names: Sequence[str], values: Sequence[npt.NDArray[np.float32]]
) -> list[str]:
    """Nodes for the one-hot columns of each calendar column that has values."""
    indicators = []
    for i, (name, days) in enumerate(zip(names, values, strict=True)):
        if len(days):
            column = picked(graph, signature, (name,), f"calendar_{i}")
            same = graph.node("Equal", [column, graph.constant(f"days_{i}", days[None])], f"calendar_{i}_is")
            indicators.append(graph.node("Cast", [same], f"calendar_{i}_known", to=TensorProto.FLOAT))
    return indicators


def picked(graph: Graph, signature: Signature, names: tuple[str, ...], prefix: str) -> str:
    """The named numeric columns [n, k]."""
    positions = np.array([signature.numeric.index(name) for name in names], dtype=np.int64)
    return graph.node(
        "Gather", [NUMERIC_INPUT, graph.constant(f"{prefix}_columns", positions)], f"{prefix}_values", axis=1
    )


def bounded(graph: Graph, scaler: BoundedScaler, values: str, prefix: str) -> str:
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


def piecewise(graph: Graph, scaler: PiecewiseLinearScaler, values: str, prefix: str) -> str:
    """All columns of PiecewiseLinearScaler.transform."""
    scaled = bounded(graph, scaler, values, prefix)
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
