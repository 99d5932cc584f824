"""Put here: steps that compare a partition with the training reference, report it, and decide on a response.

Keep out: drift statistics (core.monitoring) and pages (reports).
"""
