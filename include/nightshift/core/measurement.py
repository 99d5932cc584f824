"""What an exported model costs: bytes, rows per second, and the time one row takes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from nightshift.core.onnx_model import (
    CATEGORICAL_INPUT,
    NUMERIC_INPUT,
    Signature,
    ask,
    categorical_matrix,
    load_session,
    numeric_matrix,
)

BATCH_ROWS = 20_000
BATCH_REPEATS = 5
SINGLE_ROWS = 200


def measure(model: bytes, signature: Signature, rows: pa.Table) -> dict[str, float]:
    """Costs of the graph alone, its matrices being ready, on one thread.

    `rows_per_second` is rows per second of processor time (best of a few batches): tasks that share
    the cores make wall-clock numbers of the same model differ by a factor of ten, but hardly these.
    `single_row_p50_ms` and `single_row_p99_ms` are wall-clock milliseconds for one row.
    They differ from run to run, so they belong into an artifact's metrics, not into its identity.
    """
    session = load_session(model, threads=1)
    numeric = numeric_matrix(rows, signature.numeric)
    categorical = categorical_matrix(rows, signature.categorical)

    def feed(positions: Any) -> dict[str, Any]:
        chosen = {NUMERIC_INPUT: numeric[positions]}
        return chosen | ({CATEGORICAL_INPUT: categorical[positions]} if signature.categorical else {})

    batch = feed(np.arange(BATCH_ROWS) % rows.num_rows)
    batch_seconds = [_seconds(time.process_time, lambda: ask(session, batch)) for _ in range(BATCH_REPEATS)]
    singles = [feed(np.array([i % rows.num_rows])) for i in range(SINGLE_ROWS)]
    single_ms = [_seconds(time.perf_counter, lambda row=row: ask(session, row)) * 1000 for row in singles]
    return {
        "rows_per_second": BATCH_ROWS / min(batch_seconds),
        "single_row_p50_ms": float(np.percentile(single_ms, 50)),
        "single_row_p99_ms": float(np.percentile(single_ms, 99)),
    }


def _seconds(clock: Any, action: Any) -> float:
    start = clock()
    action()
    return max(float(clock() - start), 1e-9)
