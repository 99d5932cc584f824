"""Search better hyperparameters for the use case's estimators, within the bounds its search policy sets.

Only rows known by the oldest origin of the race are used, so that the race judges what is found here on partitions
that nothing was chosen by.

Artifact: `study.json` (documents.StudyResult), `trials.csv`.
"""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Mapping
from datetime import date
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.estimators import DEFAULTS, hyperparameters
from nightshift.core.models.version import signature_of_spec
from nightshift.core.search.race import race_origins
from nightshift.core.search.study import SPACES, Fold, Found, importances, search, walk_forward_folds
from nightshift.core.training_rows import newest_rows
from nightshift.declare.models import ModelSpec
from nightshift.documents import StudyOfEstimator, StudyResult, TrainingSet
from nightshift.io.artifact_store import ArtifactStore
from nightshift.services.training_rows import load_rows
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    training_set: ArtifactRef,
    trials: int | None = None,
    seconds: float | None = None,
) -> ArtifactRef:
    """Commit the best settings found for each estimator that has a search space.

    `trials` (of each estimator) and `seconds` (of all together) take the place of the search policy's. Raises
    DataContractError with too little history for the race.
    """
    policy = use_case.search
    rows = load_rows(store, store.read_document(training_set, TrainingSet).parts)
    origin = race_origins(rows, policy, use_case.training.minimum_days)[0]
    rows = newest_rows(rows, use_case.key_columns, origin)
    folds = walk_forward_folds(rows, use_case.label, folds=policy.folds, fold_days=policy.fold_days)
    ends = time.monotonic() + (policy.seconds if seconds is None else seconds)
    names = [name for name in use_case.training.estimators if name in SPACES]
    found: dict[str, Found] = {}
    for position, name in enumerate(names):
        found[name] = _search(
            use_case,
            settings,
            name,
            folds,
            trials=policy.trials if trials is None else trials,
            seconds=max(0.0, ends - time.monotonic()) / (len(names) - position),
        )
    described = tuple(fold.describe() for fold in folds)
    last = date.fromisoformat(described[-1]["last"])
    result = StudyResult(
        partition=partition,
        last=last,
        folds=described,
        estimators={name: _outcome(one) for name, one in found.items()},
    )
    return store.commit(
        use_case=use_case.name,
        step="study",
        partition=partition,
        kind="hyperparameters",
        files={**result.to_files(), "trials.csv": _csv(found)},
        inputs={"training_set": [training_set]},
        parameters={"folds": policy.folds, "fold_days": policy.fold_days, "seed": use_case.training.seed},
        metrics={f"{name}/best_log_loss": one.best_log_loss for name, one in found.items()},
        rows=sum(len(one.trials) for one in found.values()),
    )


def _search(
    use_case: UseCase, settings: Settings, name: str, folds: list[Fold], *, trials: int, seconds: float
) -> Found:
    policy = use_case.training
    found = search(
        name,
        folds,
        signature_of_spec(use_case, ModelSpec(name="study", estimators=(name,))),
        hyperparameters(name, DEFAULTS, policy.parameters, folds[-1].train.num_rows),
        trials=trials,
        seconds=seconds,
        seed=policy.seed,
        threads=settings.threads,
    )
    log.info("%s: log loss %.5f in use, %.5f with %s", name, found.in_use_log_loss, found.best_log_loss, found.best)
    return found


def _outcome(found: Found) -> StudyOfEstimator:
    return StudyOfEstimator(
        in_use=found.in_use,
        in_use_log_loss=found.in_use_log_loss,
        best=found.best,
        best_log_loss=found.best_log_loss,
        trials=tuple(_log_loss(trial) for trial in found.trials),
        importance=importances(found),
    )


def _log_loss(trial: FrozenTrial) -> float | None:
    return trial.value if trial.state == TrialState.COMPLETE else None


def _csv(found: Mapping[str, Found]) -> bytes:
    """One row for each trial; log_loss is empty for one that was ended early."""
    rows: list[dict[str, Any]] = [
        {
            "estimator": name,
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "log_loss": _log_loss(trial),
            "folds": len(trial.intermediate_values),
            "settings": canonical_json(trial.params).decode(),
        }
        for name, one in found.items()
        for trial in one.trials
    ]
    sink = io.StringIO()
    columns = ["estimator", "trial", "state", "log_loss", "folds", "settings"]
    writer = csv.DictWriter(sink, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()
