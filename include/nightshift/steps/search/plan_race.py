"""Choose the candidate specs and the origins at which the race compares them.

Artifacts (variant: the origin): `origin.json` (documents.RaceOrigin), one for each origin, oldest first.
"""

from __future__ import annotations

from datetime import timedelta

from nightshift.artifact import ArtifactRef
from nightshift.core.search.candidates import candidate_specs
from nightshift.core.search.race import race_origins, scored_partitions
from nightshift.documents.search import RaceOrigin, StudyResult
from nightshift.services.training_rows import load_training_set
from nightshift.steps.context import StepContext


def run(context: StepContext, *, training_set: ArtifactRef, studied: ArtifactRef) -> list[ArtifactRef]:
    """Commit the origins. Candidates are the declared specs, the champion first, and those that the training
    policy expands to.

    Raises DataContractError with too little history for the declared origins, ConfigurationError for an unknown
    estimator or technique.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    rows = load_training_set(store, use_case, training_set)
    origins = race_origins(rows, use_case.search, use_case.training.minimum_days)
    state = context.warehouse.state_as_of(partition + timedelta(days=1))
    champion = state.specs.get(state.champion or "", use_case.champion)
    tuned = {
        name: dict(one.best)
        for name, one in store.read_document(studied, StudyResult).estimators.items()
        if dict(one.best) != dict(one.in_use)
    }
    specs = candidate_specs(use_case, (champion, *use_case.specs.values()), tuned)
    return [
        context.commit(
            "plan_race",
            variant=origin.isoformat(),
            kind="race_origin",
            files=RaceOrigin(
                origin=origin,
                scored=scored_partitions(origin, use_case.search),
                measured=origin == origins[-1],
                baseline=champion.spec_id,
                specs=specs,
            ).to_files(),
            inputs={"training_set": [training_set], "study": [studied]},
            rows=len(specs),
        )
        for origin in origins
    ]
