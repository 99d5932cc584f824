"""Fit all candidate specs at one origin and score the partitions that follow it.

Artifact (variant: the origin): `race.json` (documents.Race). At the newest origin each candidate's ONNX bytes and
rows per second on one core are measured, too.
"""

from __future__ import annotations

from nightshift.artifact import ArtifactRef
from nightshift.core.search.race import run_race
from nightshift.documents.search import RaceOrigin
from nightshift.services.training_rows import load_training_set
from nightshift.steps.context import StepContext


def run(context: StepContext, *, training_set: ArtifactRef, origin: ArtifactRef) -> ArtifactRef:
    """Commit the scores of every candidate. Raises DataContractError if nothing can be fitted or scored."""
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    plan = store.read_document(origin, RaceOrigin)
    rows = load_training_set(store, use_case, training_set)
    raced = run_race(use_case, plan, rows, partition, threads=settings.threads)
    return context.commit(
        "race",
        variant=plan.origin.isoformat(),
        kind="race",
        files=raced.to_files(),
        inputs={"training_set": [training_set], "origin": [origin]},
        rows=len(raced.specs),
    )
