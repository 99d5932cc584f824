"""Gates that a version passes before it may serve.

Put here: gates, their measurements and results. Keep out: processes that score (runtime_probe), promotion.
"""
