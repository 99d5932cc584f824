"""Compression of networks and linear models.

Put here: quantization, pruning and factorization of layers. Keep out: trees, students.
"""
