"""Put here: steps that people trigger, and `record_failure`, which any stage runs.

Keep out: what nightly runs decide by themselves (steps.promote).
"""
