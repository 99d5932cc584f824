"""Put here: steps from delivered labels to registered versions.

Keep out: estimators (core.models), export (core.export) and gates (core.gates).
"""
