"""Compression of boosted trees.

Put here: techniques on the trees of an XGBoost model. Keep out: networks, students.
"""
