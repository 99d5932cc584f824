"""Drift of data and scores, and the audit of scores.

Put here: comparisons of a partition with a reference or bounds. Keep out: losses on matured labels (lifecycle).
"""
