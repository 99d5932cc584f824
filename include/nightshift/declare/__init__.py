"""Classes that a use case is declared with.

Put here: plain declarations, cheap to import. Keep out: computations, I/O, data and machine-learning libraries.
"""
