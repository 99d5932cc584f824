"""Selection of trees by an L1 path, with a weight for each."""

from __future__ import annotations

from functools import partial
from operator import mul

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve
from sklearn.linear_model import lasso_path
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightshift.core.arrays import Floats
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.trees.boosted_trees import (
    Ensemble,
    leaf_ids,
    leaf_values,
    read_ensemble,
    with_ensemble,
    with_leaves,
)
from nightshift.core.models.fitted import FittedModel
from nightshift.declare.models import number
from nightshift.errors import NotApplicable

DEFAULTS = {"tolerance": 3e-3, "path": 30}
"""Largest rise of the validation rows' log loss (nats); how many selections of the path are tried."""

RIDGE = 1e-6


def select_trees(model: FittedModel, problem: Problem) -> FittedModel:
    """The fewest trees on an L1 path whose reweighted sum raises the validation loss by at most `tolerance`.

    Each tree gets a factor, all together a shift, by L1-regularised logistic regression: LOP (Devos et
    al., ICML 2025, PMLR 267) at the level of the roots, where a factor of 0 removes the tree. Targets are
    the model's own probabilities, because labels would favour trees that memorised them. One
    weighted lasso path (a proximal Newton step, as in glmnet) orders the selections; each is then
    refitted without penalty. Raises NotApplicable for anything but boosted trees, or if all are needed.
    """
    ensemble = read_ensemble(model)
    settings = problem.settings("select_trees", DEFAULTS)
    fitting, validation = problem.train.take(problem.fitting), problem.train.take(problem.validation)
    margins = _margins(model, ensemble, fitting, problem.threads)
    validation_margins = _margins(model, ensemble, validation, problem.threads)
    loss = problem.validation_loss(ensemble.base_margin + validation_margins.sum(axis=1))
    allowed = loss + number(settings, "tolerance")

    total = margins.sum(axis=1)
    soft = 1 / (1 + np.exp(-(ensemble.base_margin + total)))
    root = np.sqrt(soft * (1 - soft))[:, None]
    mean, target_mean = _weighted_mean(margins, root), float(_weighted_mean(total[:, None], root)[0])
    weighted, target = (margins - mean) * root, (total - target_mean) * root[:, 0]
    with threadpool_limits(limits=1, user_api="blas"):
        gram, moment = weighted.T @ weighted, weighted.T @ target
        _, path, _ = lasso_path(
            weighted, target, precompute=gram, Xy=moment, positive=True, alphas=settings["path"], eps=1e-4, copy_X=False
        )
        for chosen in _selections(path):
            part = gram[np.ix_(chosen, chosen)]
            ridge = RIDGE * np.trace(part) / len(chosen) * np.eye(len(chosen))
            factors = solve(part + ridge, moment[chosen], assume_a="pos")
            shift = target_mean - float(mean[chosen] @ factors)
            loss = problem.validation_loss(ensemble.base_margin + shift + validation_margins[:, chosen] @ factors)
            if loss <= allowed:
                trees = tuple(
                    with_leaves(ensemble.trees[i], partial(mul, f)) for i, f in zip(chosen, factors, strict=True)
                )
                return with_ensemble(model, Ensemble(trees, ensemble.base_margin + shift))
    raise NotApplicable(
        "NS-MODEL-023", f"no smaller set of the {len(ensemble.trees)} trees keeps the log loss within the tolerance"
    )


def _selections(path: Floats) -> list[npt.NDArray[np.int64]]:
    """The distinct sets of trees along the path, smaller ones first, without the empty and the full set."""
    sets = {tuple(np.flatnonzero(path[:, i]).tolist()) for i in range(path.shape[1])}
    smaller = [chosen for chosen in sets if 0 < len(chosen) < len(path)]
    return [np.array(chosen, dtype=np.int64) for chosen in sorted(smaller, key=lambda chosen: (len(chosen), chosen))]


def _margins(model: FittedModel, ensemble: Ensemble, rows: object, threads: int) -> Floats:
    """Each tree's contribution to the log odds of each row: [n, trees]."""
    leaves = leaf_ids(model, rows, threads)
    return np.column_stack([leaf_values(tree)[leaves[:, i]] for i, tree in enumerate(ensemble.trees)])


def _weighted_mean(values: Floats, root: Floats) -> Floats:
    return np.asarray((values * root**2).sum(axis=0) / (root**2).sum())
