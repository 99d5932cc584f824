"""Search better hyperparameters for the use case's estimators, within the bounds its search policy sets.

Only rows known by the oldest origin of the race are used, so that the race evaluates the settings on partitions that
were not used to choose them.

Artifact: `study.json` (documents.StudyResult), `trials.csv`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import optuna
import pandas as pd

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.features.training_rows import newest_rows
from nightshift.core.models.estimators import DEFAULTS
from nightshift.core.models.fitted import hyperparameters
from nightshift.core.search.race import race_origins
from nightshift.core.search.study import SPACES, Fold, importances, search, walk_forward_folds
from nightshift.core.versions.version import signature_of_spec
from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.documents.search import StudyOfEstimator, StudyResult
from nightshift.services.training_rows import load_training_set
from nightshift.settings import Settings
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(
    context: StepContext, *, training_set: ArtifactRef, trials: int | None = None, seconds: float | None = None
) -> ArtifactRef:
    """Commit the best settings found for each estimator that has a search space.

    `trials` (of each estimator) and `seconds` (of all together) replace those of the search policy. Raises
    DataContractError with too little history for the race.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    policy = use_case.search
    rows = load_training_set(store, use_case, training_set)
    origin = race_origins(rows, policy, use_case.training.minimum_days)[0]
    rows = newest_rows(rows, use_case.key_columns, origin)
    folds = walk_forward_folds(rows, use_case.label, folds=policy.folds, fold_days=policy.fold_days)
    ends = time.monotonic() + (policy.seconds if seconds is None else seconds)
    names = [name for name in use_case.training.estimators if name in SPACES]
    studies: dict[str, optuna.Study] = {}
    for position, name in enumerate(names):
        studies[name] = _search(
            use_case,
            settings,
            name,
            folds,
            trials=policy.trials if trials is None else trials,
            seconds=max(0.0, ends - time.monotonic()) / (len(names) - position),
        )
    described = tuple(fold.describe() for fold in folds)
    result = StudyResult(
        partition=partition,
        last=described[-1].last,
        folds=described,
        estimators={name: _outcome(one) for name, one in studies.items()},
    )
    return context.commit(
        "study",
        kind="hyperparameters",
        files={**result.to_files(), "trials.csv": _csv(studies)},
        inputs={"training_set": [training_set]},
        parameters={"folds": policy.folds, "fold_days": policy.fold_days, "seed": use_case.training.seed},
        metrics={f"{name}/best_log_loss": one.best_value for name, one in studies.items()},
        rows=sum(len(one.trials) for one in studies.values()),
    )


def _search(
    use_case: UseCase, settings: Settings, name: str, folds: list[Fold], *, trials: int, seconds: float
) -> optuna.Study:
    policy = use_case.training
    study = search(
        name,
        folds,
        signature_of_spec(use_case, ModelSpec(name="study", estimators=(name,))),
        hyperparameters(name, DEFAULTS, policy.parameters, folds[-1].train.num_rows),
        trials=trials,
        seconds=seconds,
        seed=policy.seed,
        threads=settings.threads,
    )
    log.info("%s: log loss %.5f in use, %.5f with %s", name, study.trials[0].value, study.best_value, study.best_params)
    return study


def _outcome(study: optuna.Study) -> StudyOfEstimator:
    in_use = study.trials[0]
    return StudyOfEstimator(
        in_use=in_use.params,
        in_use_log_loss=in_use.values[0],
        best=study.best_params,
        best_log_loss=study.best_value,
        trials=tuple(_log_loss(trial) for trial in study.trials),
        importance=importances(study),
    )


def _log_loss(trial: optuna.trial.FrozenTrial) -> float | None:
    return trial.value if trial.state == optuna.trial.TrialState.COMPLETE else None


def _csv(studies: Mapping[str, optuna.Study]) -> bytes:
    """One row for each trial; log_loss is empty for pruned trials."""
    rows = [
        {
            "estimator": name,
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "log_loss": _log_loss(trial),
            "folds": len(trial.intermediate_values),
            "settings": canonical_json(trial.params).decode(),
        }
        for name, study in studies.items()
        for trial in study.trials
    ]
    columns = ["estimator", "trial", "state", "log_loss", "folds", "settings"]
    return pd.DataFrame(rows, columns=columns).to_csv(index=False, lineterminator="\n").encode()
