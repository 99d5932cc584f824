"""Fit one estimator on the training rows and judge it on the newer holdout rows.

Artifact (variant: the estimator): `model.pickle`, `metrics.json`.
"""

from __future__ import annotations

import logging
from datetime import date

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.estimators import DEFAULTS, FITTED_MODEL, HOLDOUT_METRICS, fit_estimator, hyperparameters
from nightshift.core.evaluation import evaluate
from nightshift.core.training_split import TRAINING_SET, signature_of, split_training_set
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.hyperparameters import best_known
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
    estimator: str,
) -> ArtifactRef:
    """Commit the fitted model and its holdout metrics. The same training set gives the same bytes.

    Hyperparameters are the defaults, over them the use case's own, over them what the newest search
    of an earlier partition found better; that search is then an input and a parameter, `search`.
    Raises ConfigurationError for an unknown estimator and DataContractError for a training set
    that cannot be learned from or judged on.
    """
    policy = use_case.training
    split = split_training_set(store.read_table(training_set, TRAINING_SET), use_case.label)
    parameters = hyperparameters(estimator, DEFAULTS, policy.parameters, split.train.num_rows)
    found = best_known(store, use_case.name, estimator, partition)
    search: dict[str, list[ArtifactRef]] = {}
    if found is not None:
        best, ref = found
        parameters, search = {**parameters, **best}, {"search": [ref]}
    signature = signature_of(store.manifest(training_set).parameters, use_case.score)
    fitted = fit_estimator(
        estimator,
        split.train,
        split.train_labels,
        signature,
        parameters,
        seed=policy.seed,
        threads=settings.threads,
    )
    metrics = evaluate(split.holdout_labels, fitted.probability(split.holdout))
    log.info("%s %s %s: %s", use_case.name, partition, estimator, metrics)
    return store.commit(
        use_case=use_case.name,
        step="fit",
        partition=partition,
        variant=estimator,
        kind="fitted_model",
        files={FITTED_MODEL: fitted.to_bytes(), HOLDOUT_METRICS: canonical_json(metrics)},
        inputs={"training_set": [training_set], **search},
        parameters={
            "estimator": estimator,
            "hyperparameters": parameters,
            "seed": policy.seed,
            **{name: ref.sha256 for name, (ref,) in search.items()},
        },
        metrics=metrics,
        rows=split.train.num_rows,
    )
