"""Search better hyperparameters for the use case's estimators, within the bounds its search policy sets.

The partition's training set is searched on, its holdout rows never looked at. A search that is run
again goes on where it stopped: each estimator has a study `<use case>.<estimator>` in the warehouse.
Trainings of later partitions take what was found, if it beats the settings in use on the same folds.

Artifact: `best.json` {"partition", "folds", "estimators": {name: {"better", "best", "best_log_loss",
"in_use", "in_use_log_loss", "trials", "importance"}}}, `trials.csv`, `search.html`.
"""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Sequence
from datetime import date
from typing import Any

from nightshift.artifact import ArtifactRef, Decision, canonical_json, sha256_hex
from nightshift.core.estimators import DEFAULTS, hyperparameters
from nightshift.core.hyperparameter_search import (
    LOG_LOSS,
    SPACES,
    Found,
    importances,
    search,
    study_as_of,
    walk_forward_folds,
)
from nightshift.core.search_report import render
from nightshift.core.training_split import TRAINING_SET, signature_of, split_training_set
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.hyperparameters import BEST, STEP, best_known, study_storage
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    trials: int | None = None,
    seconds: float | None = None,
) -> ArtifactRef:
    """Commit what was found; it counts for later partitions only if it is better than what is in use.

    `trials` (of each estimator) and `seconds` (of all together) take the place of the search
    policy's. Raises PartitionNotReady if the partition has no training set and
    WarehouseUnavailable while another process searches in the same study.
    """
    policy = use_case.search
    training_set = store.current(use_case.name, "build_training_set", partition)
    split = split_training_set(store.read_table(training_set, TRAINING_SET), use_case.label)
    signature = signature_of(store.manifest(training_set).parameters, use_case.score)
    folds = walk_forward_folds(split.train, use_case.label, folds=policy.folds, fold_days=policy.fold_days)
    described = [fold.describe() for fold in folds]
    folds_id = sha256_hex(canonical_json([training_set.sha256, described]))[:16]
    names = [name for name in use_case.training.estimators if name in SPACES]
    if not names:
        raise ConfigurationError(
            f"{use_case.name} fits {list(use_case.training.estimators)}, and none of them has a search space."
        )
    ends = time.monotonic() + (policy.seconds if seconds is None else seconds)
    found: dict[str, Found] = {}
    searches: list[ArtifactRef] = []
    for position, name in enumerate(names):
        in_use = hyperparameters(name, DEFAULTS, use_case.training.parameters, split.train.num_rows)
        if (known := best_known(store, use_case.name, name, partition)) is not None:
            in_use |= known[0]
            searches.append(known[1])
        study = f"{use_case.name}.{name}"
        with study_storage(settings, study) as storage:
            study = study_as_of(storage, study, partition)
            found[name] = search(
                name,
                folds,
                signature,
                in_use,
                storage=storage,
                study_name=study,
                partition=partition,
                folds_id=folds_id,
                trials=policy.trials if trials is None else trials,
                seconds=max(0.0, ends - time.monotonic()) / (len(names) - position),
                seed=use_case.training.seed,
                threads=settings.threads,
            )
        was, now, best = found[name].in_use_log_loss, found[name].best_log_loss, found[name].best
        log.info("%s: log loss %.5f in use, %.5f with %s", study, was, now, best)
    return _commit(use_case, store, partition, training_set, searches, described, found)


def _commit(
    use_case: UseCase,
    store: ArtifactStore,
    partition: date,
    training_set: ArtifactRef,
    searches: Sequence[ArtifactRef],
    folds: Sequence[dict[str, Any]],
    found: dict[str, Found],
) -> ArtifactRef:
    outcome = {
        "partition": partition.isoformat(),
        "folds": list(folds),
        "estimators": {name: _outcome(search) for name, search in found.items()},
    }
    rows = [row for name, search in found.items() for row in _trials(name, search)]
    better = any(search.better for search in found.values())
    ref = store.commit(
        use_case=use_case.name,
        step=STEP,
        partition=partition,
        kind="hyperparameters",
        files={
            BEST: canonical_json(outcome),
            "trials.csv": _csv(rows),
            "search.html": render(outcome, rows, title=use_case.title).encode(),
        },
        inputs={"training_set": [training_set], "searches": list(dict.fromkeys(searches))},
        parameters={
            "folds": use_case.search.folds,
            "fold_days": use_case.search.fold_days,
            "seed": use_case.training.seed,
        },
        metrics={
            f"{name}/{what}": value
            for name, search in found.items()
            for what, value in (("best_log_loss", search.best_log_loss), ("in_use_log_loss", search.in_use_log_loss))
        },
        rows=len(rows),
        current=better,
    )
    if not better:
        reason = "no settings were found that beat those in use by more than noise"
        store.decide(use_case.name, STEP, partition, Decision(status="rejected", ref=ref, reason=reason))
    return ref


def _outcome(found: Found) -> dict[str, Any]:
    return {
        "better": found.better,
        "best": dict(found.best),
        "best_log_loss": found.best_log_loss,
        "in_use": dict(found.in_use),
        "in_use_log_loss": found.in_use_log_loss,
        "trials": len(found.trials),
        "importance": importances(found),
    }


def _trials(estimator: str, found: Found) -> list[dict[str, Any]]:
    """One row for each trial; log_loss is None for one that was ended early."""
    return [
        {
            "estimator": estimator,
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "log_loss": trial.user_attrs.get(LOG_LOSS),
            "folds": len(trial.intermediate_values),
            "settings": canonical_json(trial.params).decode(),
        }
        for trial in found.trials
    ]


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()
