"""Write the drift report of a partition: one self-contained HTML page, `report.html`."""

from __future__ import annotations

from datetime import timedelta

from nightshift.artifact import ArtifactRef
from nightshift.core.monitoring.outcome_drift import EVERYTHING
from nightshift.documents.check_drift import Drift
from nightshift.reports.drift import render
from nightshift.services.drift_inputs import slice_days
from nightshift.steps.context import StepContext


def run(context: StepContext, *, drift: ArtifactRef) -> ArtifactRef:
    """Commit `report.html` for the comparison `drift`. Raises WarehouseUnavailable."""
    use_case, store, partition = context.use_case, context.store, context.partition
    (scores,) = store.manifest(drift).inputs["scores"]
    first = partition - timedelta(days=use_case.drift.days - 1)
    page = render(
        store.read_document(drift, Drift),
        outcomes=slice_days(context.warehouse, use_case, first, partition).get(EVERYTHING, ()),
        label=use_case.label,
        title=use_case.title,
        sources=[("Comparison", drift.uri), ("Scores", scores.uri)],
    )
    return context.commit(
        "report_drift",
        kind="report",
        files={"report.html": page},
        inputs={"drift": [drift]},
    )
