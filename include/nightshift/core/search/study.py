"""Hyperparameter search: TPE over a declared space, evaluated on walk-forward folds of days.

Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization" (TPE), and the median rule of
Golovin et al. 2017, "Google Vizier", for pruning trials; both as implemented by Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import optuna
import pyarrow as pa
import pyarrow.compute as pc
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from nightshift.core.evaluation import log_loss
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.estimators import fit_estimator
from nightshift.declare.models import Hyperparameters, number
from nightshift.documents.search import StudyFold
from nightshift.errors import ConfigurationError, DataContractError

TRIALS_PER_PARAMETER = 10
"""Most trials for each parameter of a space: more find little; one parameter does not need thirty."""

PRUNED_AGAINST = 5
"""Warm-up trials of the median pruner, which are never pruned."""

LARGEST_SHARE_OF_ROWS = {"min_child_weight": 1 / 50}
"""Parameters in numbers of rows are searched up to this share of the rows."""


Space = Mapping[str, IntDistribution | FloatDistribution]

SPACES: Mapping[str, Space] = {
    "additive": {"knots": IntDistribution(1, 6), "penalty": FloatDistribution(1e-4, 1e-1, log=True)},
    "logistic_regression": {"C": FloatDistribution(1e-5, 1.0, log=True)},
    "xgboost": {
        "n_estimators": IntDistribution(60, 400),
        "max_depth": IntDistribution(1, 6),
        "learning_rate": FloatDistribution(0.02, 0.2, log=True),
        "subsample": FloatDistribution(0.4, 1.0),
        "colsample_bytree": FloatDistribution(0.1, 1.0),
        "min_child_weight": FloatDistribution(10.0, 2000.0, log=True),
        "reg_lambda": FloatDistribution(0.1, 300.0, log=True),
    },
}
"""The search space of each estimator. The bounds limit the time of a nightly fit."""


@dataclass(frozen=True)
class Fold:
    """Rows to fit on and newer rows (`validation`) to evaluate on, with their labels (0 or 1)."""

    train: pa.Table
    train_labels: npt.NDArray[np.int64]
    validation: pa.Table
    labels: npt.NDArray[np.int64]

    def describe(self) -> StudyFold:
        """First and last day evaluated on, rows of both parts."""
        days = pc.min_max(self.validation[PARTITION]).as_py()
        return StudyFold(
            first=days["min"], last=days["max"], train_rows=self.train.num_rows, rows=self.validation.num_rows
        )


def walk_forward_folds(rows: pa.Table, label: str, *, folds: int, fold_days: int) -> list[Fold]:
    """Folds of the newest days, oldest fold first: each is fitted on every earlier day.

    `rows` are training rows with the column `partition`, sorted by it. With few days the
    folds are shorter, so that the first is fitted on at least half of the days. Raises
    DataContractError if a fold would be fitted on one class only, or there are too few days.
    """
    days = sorted(rows[PARTITION].unique().to_pylist())
    length = min(fold_days, len(days) // (2 * folds))
    if length < 1:
        raise DataContractError(
            "NS-SEARCH-006",
            f"{len(days)} training days are too few for {folds} folds; at least {2 * folds} are needed. "
            "Load more history, or take fewer folds in the use case's search policy.",
        )
    result = []
    for back in range(folds, 0, -1):
        first = days[len(days) - back * length]
        last = days[len(days) - (back - 1) * length - 1]
        train = rows.filter(pc.less(rows[PARTITION], pa.scalar(first)))
        validation = rows.filter(
            pc.and_(
                pc.greater_equal(rows[PARTITION], pa.scalar(first)), pc.less_equal(rows[PARTITION], pa.scalar(last))
            )
        )
        train_labels, labels = (np.asarray(part[label].to_numpy(), dtype=np.int64) for part in (train, validation))
        rate = float(train_labels.mean())
        if rate in (0.0, 1.0):
            raise DataContractError(
                "NS-SEARCH-007",
                f"The rows before {first} have the one label {rate:.0f} in {label!r}, so the fold {first} to {last} "
                "cannot be searched on. Load more history.",
            )
        result.append(Fold(train, train_labels, validation, labels))
    return result


def space_of(estimator: str, in_use: Hyperparameters, rows: int) -> Space:
    """The space of an estimator for a number of training rows, widened to include the settings in use.

    Raises ConfigurationError for an estimator without a space.
    """
    if estimator not in SPACES:
        raise ConfigurationError(
            "NS-SEARCH-008", f"{estimator!r} has no search space; spaces are declared for {sorted(SPACES)}."
        )
    widened: dict[str, IntDistribution | FloatDistribution] = {}
    for name, declared in SPACES[estimator].items():
        high = declared.high
        if name in LARGEST_SHARE_OF_ROWS:
            high = max(declared.low, min(high, rows * LARGEST_SHARE_OF_ROWS[name]))
        value = number(in_use, name)
        low, high = min(declared.low, value), max(high, value)
        widened[name] = type(declared)(low, high, log=declared.log)  # type: ignore[arg-type]
    return widened


def search(
    estimator: str,
    folds: Sequence[Fold],
    signature: Signature,
    in_use: Hyperparameters,
    *,
    trials: int,
    seconds: float,
    seed: int,
    threads: int,
) -> optuna.Study:
    """Search for settings with a lower mean log loss over the folds than `in_use` (full hyperparameters) has.

    At most `trials` trials, in about `seconds` seconds after the first, which evaluates the settings in use; a trial
    that has begun is completed. Pruned trials are never the best. The best of many trials need not be better than the
    settings in use: a race on later partitions decides that. The same arguments give the same trials in the same order.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = space_of(estimator, in_use, folds[-1].train.num_rows)
    started = {name: number(in_use, name) for name in space}
    study = optuna.create_study(
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNED_AGAINST),
    )

    def objective(trial: optuna.Trial) -> float:
        chosen = {name: _suggested(trial, name, declared) for name, declared in space.items()}
        losses: list[float] = []
        for position, fold in enumerate(folds):
            model = fit_estimator(
                estimator, fold.train, fold.train_labels, signature, {**in_use, **chosen}, seed=seed, threads=threads
            )
            losses.append(log_loss(fold.labels, model.probability(fold.validation)))
            trial.report(sum(losses) / len(losses), position)
            # The settings in use, with which all others are compared, are never pruned.
            if chosen != started and position + 1 < len(folds) and trial.should_prune():
                raise optuna.TrialPruned
        return sum(losses) / len(losses)

    study.enqueue_trial(started)
    study.optimize(objective, n_trials=1)
    study.optimize(objective, n_trials=min(trials, TRIALS_PER_PARAMETER * len(space)) - 1, timeout=seconds)
    return study


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of the variation of the trials' values that each parameter explains (Hutter et al. 2014, fANOVA).

    Empty with fewer than four finished trials or where all trials are equally good.
    """
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    if len(finished) < 4 or len({trial.value for trial in finished}) == 1 or len(study.best_params) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return {
        name: float(share)
        for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }


def _suggested(trial: optuna.Trial, name: str, declared: IntDistribution | FloatDistribution) -> float | int:
    if isinstance(declared, IntDistribution):
        return trial.suggest_int(name, declared.low, declared.high)
    return trial.suggest_float(name, declared.low, declared.high, log=declared.log)
