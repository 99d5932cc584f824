"""Search for better hyperparameters: TPE over a declared space, judged by walk-forward folds of days.

Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization" (TPE), and the median rule of
Golovin et al. 2017, "Google Vizier", for ending hopeless trials early; both as Optuna has them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pyarrow as pa
import pyarrow.compute as pc
from optuna.trial import FrozenTrial, TrialState

from nightshift.core.estimators import fit_estimator
from nightshift.core.evaluation import log_loss
from nightshift.core.feature_computation import PARTITION
from nightshift.core.onnx_model import Signature
from nightshift.errors import ConfigurationError, DataContractError

log = logging.getLogger(__name__)

TRIALS_PER_PARAMETER = 10
"""More trials than this for each parameter of a space find little: one parameter does not need thirty."""

PRUNED_AGAINST = 5
"""Trials that are finished, whatever they promise, before the median says which ones are hopeless."""

TRIED_FIRST = 3
"""Settings that were best on other folds are tried before the sampler has its way."""

LARGEST_SHARE_OF_ROWS = {"min_child_weight": 1 / 50}
"""Parameters in numbers of rows are searched up to this share of the rows."""

FOLDS, LOG_LOSS = "folds", "log_loss"
"""Attributes of a trial: the folds it was judged on, its mean log loss over them."""

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Range:
    """Values of one hyperparameter, both ends included. `usual` is the library's own default."""

    low: float
    high: float
    usual: float
    log: bool = False
    whole: bool = False


SPACES: Mapping[str, Mapping[str, Range]] = {
    "additive": {"knots": Range(1, 6, 3, whole=True), "penalty": Range(1e-4, 1e-1, 8e-3, log=True)},
    "logistic_regression": {"C": Range(1e-5, 1.0, 1.0, log=True)},
    "xgboost": {
        "n_estimators": Range(60, 400, 100, whole=True),
        "max_depth": Range(1, 6, 6, whole=True),
        "learning_rate": Range(0.02, 0.2, 0.3, log=True),
        "subsample": Range(0.4, 1.0, 1.0),
        "colsample_bytree": Range(0.1, 1.0, 1.0),
        "min_child_weight": Range(10.0, 2000.0, 1.0, log=True),
        "reg_lambda": Range(0.1, 300.0, 1.0, log=True),
    },
}
"""What is searched of each estimator. The ends bound how long a night's fit takes."""


@dataclass(frozen=True)
class Fold:
    """Rows to fit on and newer rows to judge on. `base` is the log loss of always answering the former's label rate."""

    train: pa.Table
    train_labels: npt.NDArray[np.int64]
    judged: pa.Table
    labels: npt.NDArray[np.int64]
    base: float

    def describe(self) -> dict[str, Any]:
        """First and last day judged, rows of both parts. JSON-safe."""
        days = pc.min_max(self.judged[PARTITION]).as_py()
        return {
            "first": days["min"].isoformat(),
            "last": days["max"].isoformat(),
            "train_rows": self.train.num_rows,
            "rows": self.judged.num_rows,
        }


@dataclass(frozen=True)
class Found:
    """The outcome of a study: settings in use and best settings, each with its mean log loss on the same folds.

    `trials` are those judged on these folds, oldest first. Being the best of many is no proof of being better: a
    race on later partitions decides that.
    """

    in_use: Mapping[str, Any]
    in_use_log_loss: float
    best: Mapping[str, Any]
    best_log_loss: float
    trials: Sequence[FrozenTrial]


def walk_forward_folds(rows: pa.Table, label: str, *, folds: int, fold_days: int) -> list[Fold]:
    """Folds of the newest days, oldest fold first: each is fitted on every earlier day.

    `rows` are training rows with the column `partition`, sorted by it. With few days the
    folds get shorter, so that the first is fitted on half of the days at least. Raises
    DataContractError if a fold would be fitted on one class only, or there are too few days.
    """
    days = sorted(rows[PARTITION].unique().to_pylist())
    length = min(fold_days, len(days) // (2 * folds))
    if length < 1:
        raise DataContractError(
            f"{len(days)} training days are too few for {folds} folds; at least {2 * folds} are needed. "
            "Load more history, or take fewer folds in the use case's search policy."
        )
    made = []
    for back in range(folds, 0, -1):
        first = days[len(days) - back * length]
        last = days[len(days) - (back - 1) * length - 1]
        train = rows.filter(pc.less(rows[PARTITION], pa.scalar(first)))
        judged = rows.filter(
            pc.and_(
                pc.greater_equal(rows[PARTITION], pa.scalar(first)), pc.less_equal(rows[PARTITION], pa.scalar(last))
            )
        )
        train_labels, labels = (np.asarray(part[label].to_numpy(), dtype=np.int64) for part in (train, judged))
        rate = float(train_labels.mean())
        if rate in (0.0, 1.0):
            raise DataContractError(
                f"The rows before {first} have the one label {rate:.0f} in {label!r}, so the fold {first} to {last} "
                "cannot be searched on. Load more history."
            )
        base = log_loss(labels, np.full(judged.num_rows, rate))
        made.append(Fold(train, train_labels, judged, labels, base))
    return made


def space_of(estimator: str, in_use: Mapping[str, Any], rows: int) -> dict[str, Range]:
    """The space of an estimator for so many training rows, widened to hold the settings in use.

    Raises ConfigurationError for an estimator without a space.
    """
    if estimator not in SPACES:
        raise ConfigurationError(f"{estimator!r} has no search space; spaces are declared for {sorted(SPACES)}.")
    widened = {}
    for name, declared in SPACES[estimator].items():
        high = declared.high
        if name in LARGEST_SHARE_OF_ROWS:
            high = max(declared.low, min(high, rows * LARGEST_SHARE_OF_ROWS[name]))
        value = in_use.get(name, declared.usual)
        widened[name] = replace(declared, low=min(declared.low, value), high=max(high, value))
    return widened


def search(
    estimator: str,
    folds: Sequence[Fold],
    signature: Signature,
    in_use: Mapping[str, Any],
    *,
    storage: optuna.storages.BaseStorage,
    study_name: str,
    partition: date,
    folds_id: str,
    trials: int,
    seconds: float,
    seed: int,
    threads: int,
) -> Found:
    """Search for settings with a lower mean log loss over the folds than `in_use` (full hyperparameters) has.

    Goes on with the study of that name (see `study_as_of`) where it stopped: at most `trials` trials are judged on the
    folds called `folds_id`, in at most about `seconds` more seconds (a trial that has begun is ended, and
    the settings in use are always judged). Trials on other folds guide the sampler: their value is
    log loss relative to that of the label rate, so it means the same on easy and on hard days; the best
    of them are tried first. Pruned trials are never the best.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = space_of(estimator, in_use, folds[-1].train.num_rows)
    started = {name: in_use.get(name, declared.usual) for name, declared in space.items()}
    study = optuna.create_study(
        storage=storage,
        study_name=study_name,
        direction="minimize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNED_AGAINST),
    )
    _end_abandoned(study)
    # Another seed after each resumption: the same one would draw the same settings again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))

    def judge(trial: optuna.Trial) -> float:
        trial.set_user_attr(FOLDS, folds_id)
        trial.set_user_attr(PARTITION, partition.isoformat())
        chosen = {name: _suggested(trial, name, declared) for name, declared in space.items()}
        losses: list[float] = []
        base = 0.0
        for number, fold in enumerate(folds):
            model = fit_estimator(
                estimator, fold.train, fold.train_labels, signature, {**in_use, **chosen}, seed=seed, threads=threads
            )
            losses.append(log_loss(fold.labels, model.probability(fold.judged)))
            base += fold.base
            trial.report(sum(losses) / base, number)
            # What everything is held against is never cut short.
            if chosen != started and number + 1 < len(folds) and trial.should_prune():
                raise optuna.TrialPruned
        trial.set_user_attr(LOG_LOSS, sum(losses) / len(losses))
        return sum(losses) / base

    ends = time.monotonic() + seconds
    bound = min(trials, TRIALS_PER_PARAMETER * len(space))
    if not _found(study, folds_id, started):
        study.enqueue_trial(started)
        study.optimize(judge, n_trials=1)
    tried = [trial.params for trial in _on_folds(study, folds_id)]
    untried = [settings for settings in _best_elsewhere(study, folds_id, space) if settings not in tried]
    while len(_on_folds(study, folds_id)) < bound and time.monotonic() < ends:
        if untried:
            study.enqueue_trial(untried.pop(0))
        study.optimize(judge, n_trials=1)
    known = [trial for trial in _on_folds(study, folds_id) if trial.state == TrialState.COMPLETE]
    best = min(known, key=lambda trial: (trial.user_attrs[LOG_LOSS], trial.number))
    first = _found(study, folds_id, started)[0]
    return Found(
        in_use=started,
        in_use_log_loss=first.user_attrs[LOG_LOSS],
        best=best.params,
        best_log_loss=best.user_attrs[LOG_LOSS],
        trials=_on_folds(study, folds_id),
    )


def study_as_of(storage: optuna.storages.BaseStorage, name: str, partition: date) -> str:
    """The study that a search for a partition goes on with: the one called `name`, or one of the partition's own
    if that one has tried anything on a later partition, which this one could not know of."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return name
    newest = max((t.user_attrs.get(PARTITION, "") for t in study.get_trials(deepcopy=False)), default="")
    return name if newest <= partition.isoformat() else f"{name}.{partition}"


def importances(found: Found) -> dict[str, float]:
    """Share of the variation of the trials' values that each parameter explains (Hutter et al. 2014, fANOVA).

    Empty with fewer than four finished trials or where all trials are equally good.
    """
    known = [trial for trial in found.trials if trial.state == TrialState.COMPLETE]
    if len(known) < 4 or len({trial.value for trial in known}) == 1 or len(found.best) < 2:
        return {}
    study = optuna.create_study()
    study.add_trials(known)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return {
        name: float(share)
        for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }


def _suggested(trial: optuna.Trial, name: str, declared: Range) -> float | int:
    if declared.whole:
        return trial.suggest_int(name, int(declared.low), int(declared.high))
    return trial.suggest_float(name, declared.low, declared.high, log=declared.log)


def _on_folds(study: optuna.Study, folds_id: str) -> list[FrozenTrial]:
    finished = study.get_trials(deepcopy=False, states=FINISHED)
    return [trial for trial in finished if trial.user_attrs.get(FOLDS) == folds_id]


def _best_elsewhere(study: optuna.Study, folds_id: str, space: Mapping[str, Range]) -> list[dict[str, Any]]:
    """Settings of the best trials on other folds, the best first, moved into the space."""
    known = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    others = [t for t in known if t.user_attrs.get(FOLDS) != folds_id and set(t.params) == set(space)]
    best = sorted(others, key=lambda trial: (trial.value, trial.number))[:TRIED_FIRST]
    return [
        {name: min(max(value, space[name].low), space[name].high) for name, value in trial.params.items()}
        for trial in best
    ]


def _found(study: optuna.Study, folds_id: str, settings: Mapping[str, Any]) -> list[FrozenTrial]:
    return [
        trial for trial in _on_folds(study, folds_id) if trial.state == TrialState.COMPLETE and trial.params == settings
    ]


def _end_abandoned(study: optuna.Study) -> None:
    """Trials that a search which was stopped left running or waiting are failed."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    for _ in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        # Asking takes a waiting trial first, and only a running one can be ended.
        study.tell(study.ask(), state=TrialState.FAIL)
