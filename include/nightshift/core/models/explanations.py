"""Which features a version's scores come from, found from its graph alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from nightshift.core.arrays import Labels
from nightshift.core.inference.onnx_model import Signature, ask, feed_of, load_session
from nightshift.core.models.evaluation import log_loss

ROWS = 2_000
"""Rows that a version scores once for each feature."""

METHOD, MEASURE = "permutation", "rise of the log loss (nats)"


@dataclass(frozen=True)
class Explanation:
    """How much each feature matters to a version, the largest first, and over how many rows that was found."""

    method: str
    measure: str
    rows: int
    features: tuple[tuple[str, float], ...]


def explain(graph: bytes, signature: Signature, rows: pa.Table, labels: Labels, *, seed: int) -> Explanation:
    """Permutation importance (Breiman 2001): by how much the log loss of a seeded sample of rows with their labels
    (0 or 1) rises when one feature's values are shuffled over the rows."""
    rng = np.random.default_rng(seed)
    taken = np.sort(rng.choice(rows.num_rows, size=min(rows.num_rows, ROWS), replace=False))
    session, known = load_session(graph), labels[taken]
    feed: dict[str, Any] = feed_of(rows.take(pa.array(taken)), signature)
    unchanged = log_loss(known, ask(session, feed))
    found = []
    for matrix, names in zip(feed.values(), (signature.numeric, signature.categorical), strict=False):
        for position, name in enumerate(names):
            values = matrix[:, position].copy()
            matrix[:, position] = rng.permutation(values)
            found.append((name, log_loss(known, ask(session, feed)) - unchanged))
            matrix[:, position] = values
    return Explanation(METHOD, MEASURE, len(taken), tuple(sorted(found, key=lambda pair: (-pair[1], pair[0]))))
