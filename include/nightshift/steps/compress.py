"""Fit one small student on the answers of the best teacher, and judge it on the holdout rows.

Artifact (variant: the technique): `model.pickle`, `metrics.json`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import date

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.distillation import DEFAULTS, fit_student
from nightshift.core.estimators import FITTED_MODEL, HOLDOUT_METRICS, FittedModel, hyperparameters
from nightshift.core.evaluation import evaluate
from nightshift.core.training_split import TRAINING_SET, split_training_set
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
    technique: str,
) -> ArtifactRef:
    """Commit the student and its holdout metrics. The teacher is the one with the lowest holdout log loss.

    `teachers` are all artifacts of `fit`. Raises ConfigurationError for a technique that fits nothing
    (quantized candidates are made by `export`).
    """
    policy = use_case.training
    split = split_training_set(store.read_table(training_set, TRAINING_SET), use_case.label)
    parameters = hyperparameters(technique, DEFAULTS, policy.parameters, split.train.num_rows)
    losses = {ref: json.loads(store.read(ref, HOLDOUT_METRICS))["log_loss"] for ref in teachers}
    best = min(losses, key=lambda ref: (losses[ref], ref.sha256))
    teacher = FittedModel.from_bytes(store.read(best, FITTED_MODEL))
    student = fit_student(
        technique,
        split.train,
        teacher.probability(split.train),
        teacher.signature,
        parameters,
        seed=policy.seed,
        threads=settings.threads,
    )
    metrics = evaluate(split.holdout_labels, student.probability(split.holdout))
    log.info("%s %s %s of %s: %s", use_case.name, partition, technique, best.uri, metrics)
    return store.commit(
        use_case=use_case.name,
        step="compress",
        partition=partition,
        variant=technique,
        kind="fitted_model",
        files={FITTED_MODEL: student.to_bytes(), HOLDOUT_METRICS: canonical_json(metrics)},
        inputs={"training_set": [training_set], "teacher": [best]},
        parameters={"technique": technique, "hyperparameters": parameters, "seed": policy.seed},
        metrics=metrics,
        rows=split.train.num_rows,
    )
