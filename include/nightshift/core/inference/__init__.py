"""Scoring with a version.

Put here: scoring an ONNX graph, calibration of its scores; pure functions. Keep out: fitting of models, gates, I/O.
"""
