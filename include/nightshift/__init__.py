"""Nightshift: a nightly machine-learning pipeline. No module in here names a use case."""

__version__ = "0.1.0"
