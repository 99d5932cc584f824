"""A network's weights in eight bits."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic

TOLERANCE = 0.05
"""How far a quantized model's probability may be from that of the graph it was made from, on any row.

Rounding weights to 1 part in 255 costs this by design, so it is no parity with the fitted model but
a bound of its own; what the rounding costs in log loss is for the compression budget to judge.
"""


def quantize_int8(model: bytes) -> bytes:
    """The graph with the weights of its matrix products as int8, activations quantized as they come.

    onnxruntime quantizes MatMul and Gemm; trees are left as they are. Activations get one scale per
    batch, so a row's answer depends a little on the rows it is asked with.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, path = Path(folder) / "given.onnx", Path(folder) / "model.onnx"
        # Symbolic shapes and graph optimization are for networks with shapes that vary within; only plain
        # shape inference is wanted.
        quant_pre_process(onnx.ModelProto.FromString(model), given, skip_optimization=True, skip_symbolic_shape=True)
        quantize_dynamic(given, path, weight_type=QuantType.QInt8)
        quantized = onnx.load(path)
    serialised: bytes = quantized.SerializeToString(deterministic=True)
    return serialised
