"""Names for the types of arrays, and positions in them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Labels = Integers
"""0 or 1."""


def evenly(rows: int, most: int) -> Integers:
    """Positions of at most `most` of `rows` rows, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))
