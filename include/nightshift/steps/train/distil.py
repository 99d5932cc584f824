"""Fit one small student on the answers of the fitted estimators, and judge it on the holdout rows.

Artifact (variant: the student): `model.pickle`, `metrics.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.students import DEFAULTS, hyperparameters_of
from nightshift.core.compression.techniques import TECHNIQUES
from nightshift.core.estimators import FITTED_MODEL, HOLDOUT_METRICS, FittedModel
from nightshift.core.evaluation import evaluate
from nightshift.core.training_split import TRAINING_SET, split_training_set
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
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
    teachers: Sequence[ArtifactRef],
    student: str,
) -> ArtifactRef:
    """Commit the student and its holdout metrics.

    `teachers` are all artifacts of `fit`; the student learns the mean of their log odds. Raises
    ConfigurationError for a name that is no student's.
    """
    if student not in DEFAULTS:
        raise ConfigurationError(
            f"{student!r} is no student; known are {sorted(DEFAULTS)}. See nightshift.core.candidates."
        )
    policy = use_case.training
    split = split_training_set(store.read_table(training_set, TRAINING_SET), use_case.label)
    named = {store.manifest(ref).variant: ref for ref in teachers}
    models = {name: FittedModel.from_bytes(store.read(ref, FITTED_MODEL)) for name, ref in sorted(named.items())}
    problem = Problem.of(
        split, list(models.values()), seed=policy.seed, threads=settings.threads, parameters=policy.parameters
    )
    fitted = TECHNIQUES[student](next(iter(models.values())), problem)
    metrics = evaluate(split.holdout_labels, fitted.probability(split.holdout))
    log.info("%s %s %s of %s: %s", use_case.name, partition, student, list(models), metrics)
    return store.commit(
        use_case=use_case.name,
        step="distil",
        partition=partition,
        variant=student,
        kind="fitted_model",
        files={FITTED_MODEL: fitted.to_bytes(), HOLDOUT_METRICS: canonical_json(metrics)},
        inputs={"training_set": [training_set], "teachers": [named[name] for name in models]},
        parameters={
            "student": student,
            "teachers": list(models),
            "hyperparameters": hyperparameters_of(student, problem),
            "seed": policy.seed,
        },
        metrics=metrics,
        rows=split.train.num_rows,
    )
