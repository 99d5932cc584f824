"""Costs of a model: rows per second, latency of one row, and the same for XGBoost's own prediction."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import xgboost

from nightshift.core.inference.onnx_model import Signature, feed_of, load_session, score_feed
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.preprocessing import feature_frame
from nightshift.runtime_probe.probe import costs

BATCH_ROWS = 20_000
BATCH_REPEATS = 7
SINGLE_ROWS = 200


def measure(model: bytes, signature: Signature, rows: pa.Table) -> dict[str, float]:
    """Costs of scoring with the graph on prepared matrices, in one thread of this process.

    Keys: rows_per_second (of processor time), single_row_p50_ms, single_row_p99_ms (wall clock); see
    `nightshift.runtime_probe.probe.costs`. They differ from run to run, so they are stored in an artifact's
    metrics, not in its identity.
    """
    session = load_session(model, threads=1)
    return costs(
        lambda feed: score_feed(session, feed),
        feed_of(rows.slice(0, BATCH_ROWS), signature),
        batch_rows=BATCH_ROWS,
        single_rows=SINGLE_ROWS,
        batch_repeats=BATCH_REPEATS,
    )


def measure_native(fitted: FittedModel, rows: pa.Table) -> dict[str, float]:
    """Costs of an XGBoost model in XGBoost itself; {} for any other model.

    Keys: native_rows_per_second (rows per second of processor time of `inplace_predict` on prepared
    matrices, in one thread; maximum of BATCH_REPEATS) and native_bytes (as UBJSON).
    """
    trees = fitted.pipeline[-1]
    if not isinstance(trees, xgboost.XGBClassifier) or fitted.graph is not None:
        return {}
    booster = trees.get_booster().copy()
    booster.set_param({"nthread": 1})
    features = fitted.pipeline[:-1].transform(feature_frame(rows.slice(0, BATCH_ROWS), fitted.signature))
    batch = np.ascontiguousarray(np.asarray(features, dtype=np.float32)[np.arange(BATCH_ROWS) % len(features)])
    seconds = []
    for _ in range(BATCH_REPEATS):
        start = time.thread_time()
        booster.inplace_predict(batch)
        seconds.append(max(time.thread_time() - start, 1e-9))
    return {"native_rows_per_second": BATCH_ROWS / min(seconds), "native_bytes": float(len(booster.save_raw("ubj")))}
