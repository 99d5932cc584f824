"""Put here: steps from the choice of versions to published predictions.

Keep out: calibration and inference (core.inference) and the audit's checks (core.monitoring).
"""
