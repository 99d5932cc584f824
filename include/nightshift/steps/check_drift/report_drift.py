"""Write the drift report of a partition: one self-contained HTML page."""

from __future__ import annotations

from nightshift.artifact import ArtifactRef
from nightshift.core.monitoring.drift import REFERENCE_TABLE, Reference, ReferenceBins
from nightshift.documents.check_drift import Drift
from nightshift.reports.drift import render
from nightshift.steps.context import StepContext


def run(context: StepContext, *, drift: ArtifactRef) -> ArtifactRef:
    """Commit `report.html` for the comparison `drift`."""
    use_case, store = context.use_case, context.store
    inputs = store.manifest(drift).inputs
    (model,), scores = inputs["model"], inputs["scores"][-1]
    reference = Reference.from_files(
        store.read_document(model, ReferenceBins), store.read_table(model, REFERENCE_TABLE)
    )
    page = render(
        store.read_document(drift, Drift),
        reference,
        title=use_case.title,
        sources=[("Comparison", drift.uri), ("Scores", scores.uri), ("Model and reference", model.uri)],
    )
    return context.commit(
        "report_drift",
        kind="report",
        files={"report.html": page},
        inputs={"drift": [drift], "model": [model]},
    )
