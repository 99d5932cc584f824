"""Which features a model's answers come from, over many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xgboost
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from nightshift.core.estimators import FittedModel
from nightshift.core.evaluation import Floats, Labels, log_loss
from nightshift.core.onnx_model import (
    CATEGORICAL_INPUT,
    NUMERIC_INPUT,
    Signature,
    ask,
    categorical_matrix,
    load_session,
    numeric_matrix,
)
from nightshift.core.preprocessing import BoundedScaler, feature_frame

ROWS_EXPLAINED = 500
"""Rows that contributions are taken over: TreeSHAP takes milliseconds for each, and the means hardly move with more."""

ROWS_PERMUTED = 2_000
"""Rows that permutation asks the model about, once for each feature."""

LOG_ODDS, LOG_LOSS = "mean |contribution| to the log odds", "rise of the log loss (nats)"


@dataclass(frozen=True)
class Explanation:
    """How much each feature matters to a model, the largest first, and how and over how many rows that was found."""

    method: str
    measure: str
    rows: int
    features: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        features = [{"feature": name, "importance": importance} for name, importance in self.features]
        return {"method": self.method, "measure": self.measure, "rows": self.rows, "features": features}


def explain(fitted: FittedModel, graph: bytes, rows: pa.Table, labels: Labels, *, seed: int) -> Explanation:
    """A global explanation of a model on a seeded sample of rows with their labels (0 or 1).

    `graph` is the model as exported. Boosted trees: TreeSHAP (Lundberg et al. 2018, as XGBoost has it).
    Logistic regression: the exact contributions of a linear model, each against its mean over the rows.
    Anything else, and a graph that does not answer just like the fitted model: how much worse the graph
    answers where one feature's values are shuffled (permutation importance, Breiman 2001).
    """
    pipeline = fitted.pipeline
    exact = fitted.graph is None and isinstance(pipeline[-1], xgboost.XGBModel | LogisticRegression)
    rng = np.random.default_rng(seed)
    taken = _sample(rng, rows.num_rows, ROWS_EXPLAINED if exact else ROWS_PERMUTED)
    sample = rows.take(pa.array(taken))
    names = (*fitted.signature.numeric, *fitted.signature.categorical)
    if not exact:
        found = _permutation(graph, fitted.signature, sample, labels[taken], rng)
        return _ranked("permutation", LOG_LOSS, len(taken), names, found)
    columns = np.asarray(pipeline[:-1].transform(feature_frame(sample, fitted.signature)))
    if isinstance(pipeline[-1], LogisticRegression):
        method, contributions = "linear contributions", _linear(pipeline[-1], columns)
    else:
        method, contributions = "TreeSHAP", _tree_shap(pipeline[-1], columns)
    by_feature = _summed(contributions, _feature_of_column(pipeline, fitted.signature), len(names))
    return _ranked(method, LOG_ODDS, len(taken), names, np.abs(by_feature).mean(axis=0))


def _sample(rng: np.random.Generator, rows: int, most: int) -> npt.NDArray[np.int64]:
    return np.sort(rng.choice(rows, size=min(rows, most), replace=False))


def _ranked(method: str, measure: str, rows: int, names: Sequence[str], importance: Floats) -> Explanation:
    ordered = sorted(zip(names, importance.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    return Explanation(method, measure, rows, tuple(ordered))


def _tree_shap(model: xgboost.XGBModel, columns: Floats) -> Floats:
    """Contributions [n, columns] to the log odds; the last column of XGBoost's answer, the mean, is left out."""
    contributions = model.get_booster().predict(xgboost.DMatrix(columns, nthread=1), pred_contribs=True)
    return np.asarray(contributions[:, :-1], dtype=np.float64)


def _linear(model: LogisticRegression, columns: Floats) -> Floats:
    return np.asarray((columns - columns.mean(axis=0)) * model.coef_[0], dtype=np.float64)


def _summed(contributions: Floats, feature_of: npt.NDArray[np.int64], features: int) -> Floats:
    """Contributions [n, features]: those of a feature's columns summed in each row, before any absolute value."""
    summed = np.zeros((features, len(contributions)))
    np.add.at(summed, feature_of, contributions.T)
    return summed.T


def _feature_of_column(pipeline: Pipeline, signature: Signature) -> npt.NDArray[np.int64]:
    """For each column that preprocessing makes, the position of the feature it is made from."""
    features, numeric = pipeline[0], len(signature.numeric)
    origin = [*range(numeric)]
    scaler = features.named_transformers_["numeric"]
    if isinstance(scaler, BoundedScaler):
        origin += scaler.indicated_.tolist()
    if signature.categorical:
        one_hot = features.named_transformers_["categorical"]
        origin += [numeric + i for i, values in enumerate(one_hot.categories_) for _ in values]
    return np.array(origin, dtype=np.int64)


def _permutation(
    graph: bytes, signature: Signature, sample: pa.Table, labels: Labels, rng: np.random.Generator
) -> Floats:
    """For each feature, by how much the log loss rises with its values shuffled over the rows."""
    session = load_session(graph, threads=1)
    numeric = numeric_matrix(sample, signature.numeric)
    feed: dict[str, Any] = {NUMERIC_INPUT: numeric}
    matrices: list[npt.NDArray[Any]] = [numeric]
    if signature.categorical:
        feed[CATEGORICAL_INPUT] = categorical_matrix(sample, signature.categorical)
        matrices.append(feed[CATEGORICAL_INPUT])
    unchanged = log_loss(labels, ask(session, feed))
    rises = []
    for matrix in matrices:
        for position in range(matrix.shape[1]):
            values = matrix[:, position].copy()
            matrix[:, position] = rng.permutation(values)
            rises.append(log_loss(labels, ask(session, feed)) - unchanged)
            matrix[:, position] = values
    return np.array(rises)
