"""Make one compressed candidate from a fitted model, by its recipe, and judge it on the holdout rows.

Artifact (variant: the candidate): `model.pickle`, `metrics.json`, and `model.onnx` where a technique makes a
graph itself (int8); or, of kind `not_applicable`, `not_applicable.json` with the reason.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.candidates import RECIPES
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.techniques import apply
from nightshift.core.estimators import FITTED_MODEL, HOLDOUT_METRICS, FittedModel
from nightshift.core.evaluation import evaluate
from nightshift.core.model_package import MODEL
from nightshift.core.training_split import TRAINING_SET, split_training_set
from nightshift.errors import ConfigurationError, NotApplicable
from nightshift.io.artifact_store import ArtifactStore
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

NOT_APPLICABLE = "not_applicable"
NOT_APPLICABLE_FILE = "not_applicable.json"


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    training_set: ArtifactRef,
    fitted: Sequence[ArtifactRef],
    distilled: Sequence[ArtifactRef],
    candidate: str,
) -> ArtifactRef:
    """Commit the compressed model and its holdout metrics, or why there is none.

    `fitted` and `distilled` are all artifacts of `fit` and `distil`. Raises ConfigurationError for a name
    without a recipe.
    """
    recipe = RECIPES.get(candidate)
    if recipe is None:
        raise ConfigurationError(f"{candidate!r} has no recipe; known are {sorted(RECIPES)}.")
    policy = use_case.training
    available = {store.manifest(ref).variant: ref for ref in (*fitted, *distilled)}
    source = available.get(recipe.source)
    inputs = {"training_set": [training_set], "fitted": [source] if source else []}
    parameters = {
        "candidate": candidate,
        "source": recipe.source,
        "techniques": list(recipe.techniques),
        "hyperparameters": {name: dict(policy.parameters.get(name, {})) for name in recipe.techniques},
        "seed": policy.seed,
    }
    try:
        if source is None:
            raise NotApplicable(f"it is made from {recipe.source}, and only {sorted(available)} were fitted")
        split = split_training_set(store.read_table(training_set, TRAINING_SET), use_case.label)
        model = FittedModel.from_bytes(store.read(source, FITTED_MODEL))
        # What it is made from is what it has to answer like: the teacher of this one step.
        problem = Problem.of(split, [model], seed=policy.seed, threads=settings.threads, parameters=policy.parameters)
        small = apply(recipe.techniques, model, problem)
    except NotApplicable as error:
        log.info("%s %s %s does not apply: %s", use_case.name, partition, candidate, error)
        return store.commit(
            use_case=use_case.name,
            step="compress",
            partition=partition,
            variant=candidate,
            kind=NOT_APPLICABLE,
            files={NOT_APPLICABLE_FILE: canonical_json({"reason": str(error)})},
            inputs=inputs,
            parameters=parameters,
        )
    metrics = evaluate(split.holdout_labels, small.probability(split.holdout))
    log.info("%s %s %s: %s", use_case.name, partition, candidate, metrics)
    graph = {MODEL: small.graph} if small.graph is not None else {}
    return store.commit(
        use_case=use_case.name,
        step="compress",
        partition=partition,
        variant=candidate,
        kind="fitted_model",
        files={FITTED_MODEL: small.to_bytes(), HOLDOUT_METRICS: canonical_json(metrics), **graph},
        inputs=inputs,
        parameters=parameters,
        metrics=metrics,
        rows=split.train.num_rows,
    )
