"""Write the night's drift report, one HTML page with its plots inside."""

from __future__ import annotations

import json
from datetime import date

from nightshift.artifact import ArtifactRef
from nightshift.core.drift import REFERENCE_BINS, REFERENCE_TABLE, Reference
from nightshift.io.artifact_store import ArtifactStore
from nightshift.reports.drift import render
from nightshift.settings import Settings
from nightshift.usecase import UseCase


def run(
    use_case: UseCase,
    settings: Settings,  # noqa: ARG001 - every step takes the same arguments
    store: ArtifactStore,
    partition: date,
    *,
    drift: ArtifactRef,
) -> ArtifactRef:
    """Commit `report.html` for a comparison."""
    inputs = store.manifest(drift).inputs
    (model,), scores = inputs["model"], inputs["scores"][-1]
    reference = Reference.from_files(
        {REFERENCE_TABLE: store.read_table(model, REFERENCE_TABLE), REFERENCE_BINS: store.read(model, REFERENCE_BINS)}
    )
    page = render(
        json.loads(store.read(drift, "drift.json")),
        reference,
        title=use_case.title,
        sources=[("Comparison", drift.uri), ("Scores", scores.uri), ("Model and reference", model.uri)],
    )
    return store.commit(
        use_case=use_case.name,
        step="report_drift",
        partition=partition,
        kind="report",
        files={"report.html": page},
        inputs={"drift": [drift], "model": [model]},
    )
