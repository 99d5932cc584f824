"""Feature importance of a version, computed from its graph alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from nightshift.core.arrays import Labels
from nightshift.core.evaluation import log_loss
from nightshift.core.inference.onnx_model import Signature, feed_of, load_session, score_feed

ROWS = 2_000
"""Rows that a version scores once for each feature."""


@dataclass(frozen=True)
class Explanation:
    """The permutation importance of each feature of a version, the largest first, and the number of rows."""

    rows: int
    features: tuple[tuple[str, float], ...]


def explain(graph: bytes, signature: Signature, rows: pa.Table, labels: Labels, *, seed: int) -> Explanation:
    """Permutation importance (Breiman 2001): by how much the log loss of a seeded sample of rows with their labels
    (0 or 1) rises when one feature's values are shuffled over the rows."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(rows.num_rows, size=min(rows.num_rows, ROWS), replace=False))
    session, sample_labels = load_session(graph), labels[sample]
    feed = feed_of(rows.take(pa.array(sample)), signature)
    unchanged = log_loss(sample_labels, score_feed(session, feed))
    importances = []
    for matrix, names in zip(feed.values(), (signature.numeric, signature.categorical), strict=False):
        for position, name in enumerate(names):
            values = matrix[:, position].copy()
            matrix[:, position] = rng.permutation(values)
            importances.append((name, log_loss(sample_labels, score_feed(session, feed)) - unchanged))
            matrix[:, position] = values
    return Explanation(len(sample), tuple(sorted(importances, key=lambda pair: (-pair[1], pair[0]))))
