"""Hyperparameter studies, races of specs and selection.

Put here: candidates, their comparison, measurement of costs. Keep out: fitting (models), gates, promotion.
"""
