"""Let MLflow's aliases name the versions of champion, challenger, watched former champion and fallback.

Nothing waits for it: what was recorded stands, and a later partition makes up for one that MLflow missed.
"""

from __future__ import annotations

from datetime import date

from nightshift.artifact import ArtifactRef
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.tracking import mirror_aliases, wanted_aliases
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase


def run(
    use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date, *, advanced: ArtifactRef
) -> ArtifactRef:
    """Set the aliases by all decisions there are; commit which version each names, as metrics.

    `advanced` is what `advance` committed. Whatever partition this is, the aliases show the state as of now. Raises
    TrackingUnavailable if MLflow does not answer and ConfigurationError if it rejects the request.
    """
    state = Warehouse(settings, use_case).state_as_of(date.max)
    mirror_aliases(settings, use_case, state, f"{use_case.name} {partition}: what advance decided is recorded.")
    return store.commit(
        use_case=use_case.name,
        step="mirror_models",
        partition=partition,
        kind="aliases",
        files={},
        inputs={"advanced": [advanced]},
        metrics={alias: one.model_version if one else None for alias, one in wanted_aliases(state).items()},
    )
