"""Fit all candidate specs at one origin and score the partitions that follow it.

Artifact (variant: the origin): `race.json` (documents.Race). At the newest origin each candidate's ONNX bytes and
rows per second on one core are measured, too.
"""

from __future__ import annotations

from datetime import date

from nightshift.artifact import ArtifactRef
from nightshift.core.search.race import run_race
from nightshift.documents import RaceOrigin, TrainingSet
from nightshift.io.artifact_store import ArtifactStore
from nightshift.services.training_rows import load_rows
from nightshift.settings import Settings
from nightshift.usecase import UseCase


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    training_set: ArtifactRef,
    origin: ArtifactRef,
) -> ArtifactRef:
    """Commit the scores of every candidate. Raises DataContractError if nothing can be fitted or scored."""
    plan = store.read_document(origin, RaceOrigin)
    rows = load_rows(store, store.read_document(training_set, TrainingSet).parts)
    raced = run_race(use_case, plan, rows, partition, threads=settings.threads)
    return store.commit(
        use_case=use_case.name,
        step="race",
        partition=partition,
        variant=plan.origin.isoformat(),
        kind="race",
        files=raced.to_files(),
        inputs={"training_set": [training_set], "origin": [origin]},
        rows=len(raced.specs),
    )
