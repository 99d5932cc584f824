"""Target-leakage checks: undeclared features, and single features that predict the label too well."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nightshift.core.arrays import Floats, Labels
from nightshift.core.evaluation import area_under_curve
from nightshift.core.inference.onnx_model import Signature, categorical_matrix, numeric_matrix
from nightshift.core.models.training_split import TrainingSplit
from nightshift.declare.features import FeatureSet
from nightshift.declare.policies import VerificationPolicy
from nightshift.deployment import GateResult

GATE = "leakage"
PRIOR_ROWS = 10.0
"""Rates of categories with few rows are shrunken towards the mean by rows/(rows + PRIOR_ROWS)."""


def check_leakage(
    signature: Signature, declared: FeatureSet, split: TrainingSplit, policy: VerificationPolicy
) -> GateResult:
    """Whether each feature belongs to the declared feature service, and none alone ranks the holdout rows too well.

    `observed` is the largest AUC (or 1 - AUC) of a single feature. A category ranks a row by the label
    rate it has in the training rows.
    """
    largest_auc = policy.largest_single_feature_auc
    undeclared = [
        *(name for name in signature.numeric if name not in declared.numeric),
        *(name for name in signature.categorical if name not in declared.categorical),
    ]
    ranking = single_feature_auc(signature, split)
    best = max(ranking, key=lambda name: (ranking[name], name))
    reasons = {}
    if signature.feature_service != declared.service:
        reasons["service"] = f"its features are of the service {signature.feature_service}, not of {declared.service}"
    if undeclared:
        reasons["undeclared"] = (
            f"it reads {undeclared[:5]}, which the feature service {declared.service} does not have: what is not "
            "computed as of the cutoff may have seen the outcome"
        )
    if ranking[best] > largest_auc:
        alone = [f"{name} ({auc:.3f})" for name, auc in ranking.items() if auc > largest_auc]
        reasons["auc"] = (
            f"alone, {', '.join(alone[:5])} ranks the holdout rows with an AUC above {largest_auc:g}, as only what "
            "has seen the outcome does: take it out, or correct the SQL that computes it"
        )
    reason = "; ".join(reasons.values()) or f"of single features, {best} ranks best"
    return GateResult.evaluated(GATE, next(iter(reasons), ""), reason, observed=ranking[best], bound=largest_auc)


def single_feature_auc(signature: Signature, split: TrainingSplit) -> dict[str, float]:
    """For each feature the AUC of ranking the holdout rows by it alone, at least 0.5: the better of both directions,
    with missing values first or last."""
    labels = split.holdout_labels
    aucs = {}
    numbers = numeric_matrix(split.holdout, signature.numeric)
    for position, name in enumerate(signature.numeric):
        aucs[name] = max(_either_way(auc) for auc in _auc_with_missing(labels, numbers[:, position]))
    for name in signature.categorical:
        rates = _training_rates(split.train, split.train_labels, split.holdout, name)
        aucs[name] = _either_way(area_under_curve(labels, rates))
    return aucs


def _either_way(auc: float) -> float:
    return max(auc, 1 - auc)


def _auc_with_missing(labels: Labels, values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """AUC with missing values below, and above, all others; counted over pairs of a positive and a negative row."""
    absent = np.isnan(values)
    known_labels, absent_labels = labels[~absent], labels[absent]
    positives, negatives = int(known_labels.sum()), int((known_labels == 0).sum())
    absent_positives, absent_negatives = int(absent_labels.sum()), int((absent_labels == 0).sum())
    known_pairs = positives * negatives
    concordant = (
        known_pairs * area_under_curve(known_labels, values[~absent].astype(np.float64)) if known_pairs else 0.0
    )
    tied = absent_positives * absent_negatives / 2
    pairs = (positives + absent_positives) * (negatives + absent_negatives)
    below, above = positives * absent_negatives, absent_positives * negatives
    return (concordant + tied + below) / pairs, (concordant + tied + above) / pairs


def _training_rates(train: pa.Table, labels: Labels, holdout: pa.Table, name: str) -> Floats:
    """For each holdout row the label rate of its category in the training rows."""
    categories, codes = np.unique(categorical_matrix(train, (name,))[:, 0].astype(str), return_inverse=True)
    rows = np.bincount(codes, minlength=len(categories))
    mean = labels.mean()
    positives = np.bincount(codes, weights=labels, minlength=len(categories))
    rates = dict(zip(categories.tolist(), (positives + PRIOR_ROWS * mean) / (rows + PRIOR_ROWS), strict=True))
    return np.array([rates.get(value, mean) for value in categorical_matrix(holdout, (name,))[:, 0]])
