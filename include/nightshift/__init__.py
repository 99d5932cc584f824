"""Nightshift: the machinery of a nightly machine-learning pipeline. It never names a use case."""

__version__ = "0.1.0"
