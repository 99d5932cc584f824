"""Compression of fitted models.

Put here: techniques, one module each. Keep out: fitting on labels (models), export, bounds on quality (search).
"""
