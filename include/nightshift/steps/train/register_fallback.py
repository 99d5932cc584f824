"""Put a simple model in place that can always answer: a logistic regression on a few shrunken rates.

It serves as long as there is no champion. Once there is one it stays: what everyone falls back to
should not change with each night.

Artifact: a model artifact, as of `register`.
"""

from __future__ import annotations

import logging
from datetime import date
from functools import partial

from nightshift.artifact import ArtifactRef
from nightshift.core.estimators import DEFAULTS, fit_estimator, hyperparameters
from nightshift.core.evaluation import evaluate
from nightshift.core.model_package import describe, package
from nightshift.core.onnx_export import export_onnx
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.core.parity import check_parity, probe_rows
from nightshift.core.training_split import TRAINING_SET, signature_of, split_training_set
from nightshift.deployment import Deployment, model_version
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

ESTIMATOR = "logistic_regression"


def run(
    use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date, *, training_set: ArtifactRef
) -> ArtifactRef:
    """Commit the fallback and record it as `bootstrap`; a fallback of an earlier partition is returned instead.

    Raises ConfigurationError if the use case names no `fallback_features`, or names one that the training
    set lacks; ParityError if its export does not answer like it.
    """
    warehouse = Warehouse(settings, use_case)
    in_place = warehouse.fallback_as_of(partition)
    if in_place is not None and in_place.model is not None and in_place.partition < partition:
        log.info("%s: the fallback %s stays in place", use_case.name, in_place.model_version)
        return in_place.model

    policy = use_case.training
    split = split_training_set(store.read_table(training_set, TRAINING_SET), use_case.label)
    signature = _signature(use_case, signature_of(store.manifest(training_set).parameters, use_case.score))
    parameters = hyperparameters(ESTIMATOR, DEFAULTS, policy.parameters, split.train.num_rows)
    fitted = fit_estimator(
        ESTIMATOR, split.train, split.train_labels, signature, parameters, seed=policy.seed, threads=settings.threads
    )
    graph = export_onnx(fitted)
    answers = partial(score, load_session(graph, threads=1), signature)
    check_parity(
        fitted.probability,
        answers,
        probe_rows(split.holdout, signature),
        policy.parity_tolerance,
        what=f"{use_case.name} fallback against fitted",
        key=tuple(column.name for column in use_case.prediction_key),
    )
    scores = answers(split.holdout)
    metrics = evaluate(split.holdout_labels, scores)
    card = describe(use_case, signature, split, metrics, role="fallback", estimator=ESTIMATOR)
    ref = store.commit(
        use_case=use_case.name,
        step="register_fallback",
        partition=partition,
        kind="model",
        files=package(use_case, graph, signature, split, scores, card),
        inputs={"training_set": [training_set]},
        parameters={
            "estimator": ESTIMATOR,
            "hyperparameters": parameters,
            "features": policy.fallback_features,
            "feature_service": signature.feature_service,
        },
        metrics=metrics,
        rows=split.train.num_rows,
    )
    warehouse.record_deployment(
        Deployment(
            partition=partition,
            action="bootstrap",
            role="fallback",
            model_version=model_version(partition, ref),
            model=ref,
            reason={"why": "there was no fallback as of this partition", "holdout": metrics},
            decided_by="register_fallback",
        )
    )
    return ref


def _signature(use_case: UseCase, everything: Signature) -> Signature:
    """The signature with the fallback's features only."""
    wanted = use_case.training.fallback_features
    unknown = [name for name in wanted if name not in (*everything.numeric, *everything.categorical)]
    numeric = tuple(name for name in everything.numeric if name in wanted)
    if unknown or not numeric:
        raise ConfigurationError(
            f"{use_case.name} names {list(wanted)} as fallback_features in its training policy; at least one numeric "
            f"feature is needed{f', and {unknown} are no features' if unknown else ''}."
        )
    categorical = tuple(name for name in everything.categorical if name in wanted)
    return everything.model_copy(update={"numeric": numeric, "categorical": categorical})
