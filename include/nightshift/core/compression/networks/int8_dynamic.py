"""Dynamic int8 quantization: weights once, activations per batch."""

from __future__ import annotations

from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

from nightshift.core.compression.networks.quantization import QUANTIZED, quantized
from nightshift.core.compression.problem import Problem
from nightshift.core.models.fitted import FittedModel


def int8_dynamic(model: FittedModel, problem: Problem) -> FittedModel:  # noqa: ARG001
    """The model with an int8 graph. Raises NotApplicable for trees, and where int8 saves no bytes.

    Activations get one scale per batch, so a row's score depends slightly on the other rows of its batch.
    """

    def quantize(source: Path, path: Path, leave: list[str]) -> None:
        quantize_dynamic(
            source, path, op_types_to_quantize=list(QUANTIZED), nodes_to_exclude=leave, weight_type=QuantType.QInt8
        )

    return quantized(model, quantize)
