"""A graph with its matrix products in eight bits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
from onnxruntime.quantization import quant_pre_process

from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.models.estimators import FittedModel
from nightshift.core.models.network import layers_of
from nightshift.errors import NotApplicable

TOLERANCE = 0.05
"""How far a quantized model's probability may be from that of the graph it was made from, on any row.

Rounding weights to 1 part in 255 costs this by design, so it is no parity with the fitted model but
a bound of its own; what the rounding costs in log loss is for the compression budget to judge.
"""


QUANTIZED = ("Gemm", "MatMul", "Gather")
"""Operators that multiply by weights or pick rows of them."""


def nodes_to_leave(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes among QUANTIZED that are not worth it: what they read is no weights, or their sum no bias."""
    weights = {i.name for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    left = []
    for node in model.graph.node:
        constants = node.input[1:] if node.op_type == "Gemm" else node.input[:1]
        if node.op_type in QUANTIZED and not all(name in weights for name in constants):
            # onnxruntime gives the product within a Gemm this name before it looks at the list.
            left += [node.name, f"{node.name}_MatMul"]
    return left


def quantizable_graph(model: FittedModel) -> bytes:
    """The graph that is to be quantized, its columns standardised: one scale has to do for all of them.

    Raises NotApplicable for a model without matrix products, and for one that is quantized already.
    """
    if model.graph is not None:
        raise NotApplicable("the model is quantized already")
    if layers_of(model.pipeline[-1]) is None:
        raise NotApplicable("onnxruntime quantizes matrix products, and trees have none")
    return export_onnx(model, folded=False)


def quantized(graph: bytes, quantize: Callable[[Path, Path, list[str]], None], full_precision: bytes) -> bytes:
    """What `quantize(given file, file to write, nodes to leave as they are)` makes of a graph.

    Raises NotApplicable if it is no smaller than `full_precision`, the graph it would replace.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, path = Path(folder) / "given.onnx", Path(folder) / "model.onnx"
        # Symbolic shapes and graph optimization are for networks with shapes that vary within; only plain
        # shape inference is wanted.
        model = onnx.ModelProto.FromString(graph)
        quant_pre_process(model, given, skip_optimization=True, skip_symbolic_shape=True)
        quantize(given, path, nodes_to_leave(model))
        made: bytes = onnx.load(path).SerializeToString(deterministic=True)
    if len(made) >= len(full_precision):
        raise NotApplicable(
            f"int8 would make the graph larger ({len(full_precision)} bytes became {len(made)}): "
            "scales and conversions weigh more than the weights they save"
        )
    return made
