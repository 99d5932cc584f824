"""Int8 quantization of an ONNX graph's matrix products."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
from onnxruntime.quantization import quant_pre_process

from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.network import layers_of
from nightshift.errors import NotApplicable

TOLERANCE = 0.05
"""Largest allowed difference of a quantized model's probability from its full-precision graph's, on any row.

Rounding weights to 1 part in 255 causes such differences by design, so this is not the parity tolerance but a
bound of its own; the compression budget bounds the cost in log loss.
"""


QUANTIZED = ("Gemm", "MatMul", "Gather")
"""Operators that multiply by weights or pick rows of them."""


def nodes_to_leave(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes among QUANTIZED not to quantize, because their weights or bias are not constants."""
    weights = {i.name for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    excluded = []
    for node in model.graph.node:
        constants = node.input[1:] if node.op_type == "Gemm" else node.input[:1]
        if node.op_type in QUANTIZED and not all(name in weights for name in constants):
            # onnxruntime gives the product within a Gemm this name before it looks at the list.
            excluded += [node.name, f"{node.name}_MatMul"]
    return excluded


def quantized(model: FittedModel, quantize: Callable[[Path, Path, list[str]], None]) -> FittedModel:
    """The model with its graph after `quantize(source file, file to write, nodes not to quantize)`.

    The source has standardised columns, because one scale is used for all of them. Raises NotApplicable for a model
    without matrix products, for one that is quantized already, and if the graph gets no smaller.
    """
    if model.graph is not None:
        raise NotApplicable("NS-MODEL-013", "the model is quantized already")
    if layers_of(model.pipeline[-1]) is None:
        raise NotApplicable("NS-MODEL-014", "onnxruntime quantizes matrix products, and trees have none")
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder) / "given.onnx", Path(folder) / "model.onnx"
        # Symbolic shapes and graph optimization are for networks with variable inner shapes; plain shape inference
        # is enough.
        standardised = onnx.ModelProto.FromString(export_onnx(model, folded=False))
        quant_pre_process(standardised, source, skip_optimization=True, skip_symbolic_shape=True)
        quantize(source, path, nodes_to_leave(standardised))
        body: bytes = onnx.load(path).SerializeToString(deterministic=True)
    full_precision = export_onnx(model)
    if len(body) >= len(full_precision):
        raise NotApplicable(
            "NS-MODEL-015",
            f"int8 would make the graph larger ({len(full_precision)} bytes became {len(body)}): "
            "scales and conversions weigh more than the weights they save",
        )
    return replace(model, graph=body)
