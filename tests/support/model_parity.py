"""Two models asked about the same probes."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from nightshift.core.arrays import Floats
from nightshift.core.gates.parity import Probes, compare

Answer = Callable[[pa.Table], Floats]


def in_batches(answer: Answer, table: pa.Table, *, rows: int) -> Floats:
    """The answers for a table asked for in batches of at most `rows` rows."""
    return np.concatenate([answer(table.slice(start, rows)) for start in range(0, table.num_rows, rows)])


class ParityError(AssertionError):
    """Two models give other scores."""


def check_parity(
    fitted: Answer, exported: Answer, probes: Probes, tolerance: float, *, what: str, key: tuple[str, ...] = ()
) -> float:
    """The largest difference of two models' scores of the probes. Raises ParityError."""
    compared = compare(fitted(probes.rows), exported(probes.rows), probes, tolerance, what, key)
    if compared.wrong or compared.largest is None:
        raise ParityError(compared.wrong)
    return compared.largest
