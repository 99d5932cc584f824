"""Sync MLflow's aliases for champion, challenger, watched former champion and fallback with `deployments`.

No step depends on it; after a failure the next partition syncs the aliases.
"""

from __future__ import annotations

from datetime import date

from nightshift.artifact import ArtifactRef
from nightshift.io.tracking import expected_aliases, mirror_aliases
from nightshift.steps.context import StepContext


def run(context: StepContext, *, advanced: ArtifactRef) -> ArtifactRef:
    """Set the aliases from all decisions; commit the version of each alias as metrics.

    `advanced` is what `advance` committed. For every partition the aliases show the current state. Raises
    TrackingUnavailable if MLflow does not answer and ConfigurationError if it rejects the request.
    """
    use_case, settings, partition = context.use_case, context.settings, context.partition
    state = context.warehouse.state_as_of(date.max)
    mirror_aliases(settings, use_case, state, f"{use_case.name} {partition}: the decision of advance is recorded.")
    return context.commit(
        "mirror_models",
        kind="aliases",
        files={},
        inputs={"advanced": [advanced]},
        metrics={alias: one.model_version if one else None for alias, one in expected_aliases(state).items()},
    )
