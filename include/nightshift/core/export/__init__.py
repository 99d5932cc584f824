"""Export of fitted models as ONNX graphs.

Put here: construction of graphs. Keep out: scoring (inference), quantization (compression), parity checks (gates).
"""
