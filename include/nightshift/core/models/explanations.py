"""Which features the scores of a version come from, over many rows and for one: computed from its graph alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from nightshift.core.arrays import Floats, Labels
from nightshift.core.evaluation import log_loss
from nightshift.core.inference.onnx_model import Signature, feed_of, load_session, score_feed

LEAST_PROBABILITY = 1e-6
ROWS = 2_000
"""Rows that a version scores once for each feature."""


BACKGROUND = 64
"""Rows whose values take the place of a row's own value, one after the other."""


@dataclass(frozen=True)
class Effect:
    """What a feature's value, as the graph gets it, adds to the log odds of one row."""

    feature: str
    value: float | str
    log_odds: float

    @property
    def shown(self) -> str:
        """The value in four digits; "missing" for NaN."""
        if isinstance(self.value, str):
            return self.value
        return "missing" if np.isnan(self.value) else f"{self.value:.4g}"


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


def effects(graph: bytes, signature: Signature, rows: pa.Table, position: int, *, seed: int) -> list[Effect]:
    """What each feature adds to the score of the row at `position`, the largest effect first.

    The row's log odds minus their mean when the feature has the values of a seeded sample of the other rows instead
    (Robnik-Sikonja and Kononenko 2008, "Explaining classifications for individual instances", with log odds). Effects
    of features that only act together, or say the same, do not add up.
    """
    others = np.delete(np.arange(rows.num_rows), position)
    sample = np.random.default_rng(seed).choice(others, size=min(len(others), BACKGROUND), replace=False)
    session = load_session(graph)
    own = feed_of(rows.slice(position, 1), signature)
    background = feed_of(rows.take(pa.array(sample)), signature)
    repeated = {name: np.repeat(values, len(sample), axis=0) for name, values in own.items()}
    unchanged = _log_odds(score_feed(session, own))[0]
    found = []
    for name, features in zip(own, (signature.numeric, signature.categorical), strict=False):
        for column, feature in enumerate(features):
            replaced = {**repeated, name: repeated[name].copy()}
            replaced[name][:, column] = background[name][:, column]
            mean = _log_odds(score_feed(session, replaced)).mean() if len(sample) else unchanged
            value = own[name][0, column]
            found.append(Effect(feature, value if isinstance(value, str) else float(value), float(unchanged - mean)))
    return sorted(found, key=lambda one: (-abs(one.log_odds), one.feature))


def _log_odds(probability: Floats) -> Floats:
    bounded = np.clip(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.asarray(np.log(bounded / (1 - bounded)))
