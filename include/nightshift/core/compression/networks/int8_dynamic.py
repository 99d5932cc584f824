"""Weights in eight bits, activations quantized as they come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

from nightshift.core.compression.networks.quantization import QUANTIZED, quantizable_graph, quantized
from nightshift.core.compression.problem import Problem
from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.models.estimators import FittedModel


def int8_dynamic(model: FittedModel, problem: Problem) -> FittedModel:  # noqa: ARG001
    """The model with an int8 graph of its own. Raises NotApplicable for trees, and where int8 saves no bytes.

    Activations get one scale per batch, so a row's answer depends a little on the rows it is asked with.
    """

    def quantize(given: Path, path: Path, leave: list[str]) -> None:
        quantize_dynamic(
            given, path, op_types_to_quantize=list(QUANTIZED), nodes_to_exclude=leave, weight_type=QuantType.QInt8
        )

    return replace(model, graph=quantized(quantizable_graph(model), quantize, export_onnx(model)))
