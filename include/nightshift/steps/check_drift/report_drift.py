"""Write the drift report of a partition: one self-contained HTML page, `report.html`."""

from __future__ import annotations

from datetime import timedelta

from nightshift.artifact import ArtifactRef
from nightshift.core.monitoring.drift import ColumnCounts, column_counts, curve
from nightshift.core.monitoring.outcome_drift import EVERYTHING
from nightshift.documents.check_drift import Drift
from nightshift.partitions import partition_range
from nightshift.reports.drift import Curve, plotted, render
from nightshift.services.day_summaries import read_summaries
from nightshift.services.drift_inputs import SUMMARIES, slice_days
from nightshift.steps.context import StepContext


def run(context: StepContext, *, drift: ArtifactRef) -> ArtifactRef:
    """Commit `report.html` for the comparison `drift`."""
    use_case, store, partition, policy = context.use_case, context.store, context.partition, context.use_case.drift
    comparison = store.read_document(drift, Drift)
    inputs = store.manifest(drift).inputs
    first = max(partition - timedelta(days=policy.days - 1), use_case.first_partition)
    window = partition_range(first, partition)
    columns: dict[tuple[str, str], ColumnCounts] = {}
    for step in SUMMARIES.values():
        summaries, _ = read_summaries(store, use_case, step, window)
        columns |= column_counts(summaries, window)
    curves = []
    for one in plotted(comparison):
        days, values = curve(columns, one, window, policy)
        curves.append(Curve(one, days, values))
    page = render(
        comparison,
        curves=curves,
        outcomes=slice_days(context.warehouse, use_case, first, partition).get(EVERYTHING, ()),
        label=use_case.label,
        title=use_case.title,
        sources=[("Comparison", drift.uri), ("Scores", inputs["scores"][0].uri)],
    )
    return context.commit(
        "report_drift",
        kind="report",
        files={"report.html": page},
        inputs={"drift": [drift]},
    )
