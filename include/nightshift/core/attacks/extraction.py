"""Extraction: a surrogate fitted on scores that can be read.

As in Tramer et al. 2016, "Stealing machine learning models via prediction APIs". The attacker is assumed to know every
feature of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from xgboost import XGBRegressor

from nightshift.core.arrays import Floats
from nightshift.core.evaluation import log_odds
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.preprocessing import bounded_features, feature_frame, tree_features
from nightshift.declare.policies import AttackPolicy
from nightshift.deployment import GateResult
from nightshift.documents.attack import Extraction

GATE = "extraction"
TREES = {"n_estimators": 200, "max_depth": 4, "learning_rate": 0.1, "n_jobs": 1}


def extract(
    rows: pa.Table, scores: Floats, signature: Signature, queries: Sequence[int], seed: int
) -> tuple[Extraction, ...]:
    """The best surrogate for each number of queries, on rows drawn at random; measured on the rows after the largest.

    `scores` [n]: of the rows. Numbers of queries that leave fewer rows than they take are left out.
    """
    order = np.random.default_rng(seed).permutation(rows.num_rows)
    frame, target = feature_frame(rows, signature).iloc[order], log_odds(scores)[order]
    possible = [number for number in queries if 2 * number <= rows.num_rows]
    found = []
    for number in possible:
        surrogates = {
            "trees": make_pipeline(tree_features(frame, signature), XGBRegressor(random_state=seed, **TREES)),
            "linear": make_pipeline(bounded_features(frame, signature), RidgeCV(alphas=np.logspace(-2, 4, 13))),
        }
        explained = {}
        for name, surrogate in surrogates.items():
            # With more threads, sums are added up in another order.
            with threadpool_limits(limits=1):
                surrogate.fit(frame.iloc[:number], target[:number])
                guessed = surrogate.predict(frame.iloc[possible[-1] :])
            explained[name] = float(r2_score(target[possible[-1] :], guessed))
        best = max(explained, key=lambda name: explained[name])
        found.append(Extraction(queries=number, surrogate=best, explained=explained[best]))
    return tuple(found)


def check_extraction(results: Sequence[Extraction], policy: AttackPolicy) -> GateResult:
    """Whether the surrogate with the most queries explains no more than the policy allows."""
    bound, most = policy.largest_explained, policy.queries[-1] if policy.queries else 0
    if not most:
        return GateResult.not_applicable(GATE, "none_declared", "no number of queries is declared")
    if not results or results[-1].queries < most:
        return GateResult.not_applicable(GATE, "few_rows", f"there are fewer unseen rows than twice {most} queries")
    shown = "; ".join(f"{one.queries}: {one.explained:.3f} ({one.surrogate})" for one in results)
    reason = (
        f"share of the variance of the log odds of other rows that a surrogate explains, by what it has seen: {shown}"
    )
    rule = "" if results[-1].explained <= bound else "explained"
    return GateResult.evaluated(GATE, rule, reason, observed=results[-1].explained, bound=bound)
