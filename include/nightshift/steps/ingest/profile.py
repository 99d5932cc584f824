"""Describe every column of what was landed: `profile.json`, and its short form in the manifest."""

from __future__ import annotations

import json
from datetime import date

from nightshift.artifact import ArtifactRef
from nightshift.core.profile import profile_summary, profile_table
from nightshift.io.artifact_store import ArtifactStore
from nightshift.settings import Settings
from nightshift.usecase import UseCase

STEP = "profile"


def run(
    use_case: UseCase,
    settings: Settings,  # noqa: ARG001 - every step takes the same arguments
    store: ArtifactStore,
    partition: date,
    *,
    landed: ArtifactRef,
) -> ArtifactRef:
    """Profile all feeds of the landed artifact; `profile.json` maps feed to core.profile's profile."""
    profiles = {feed.name: profile_table(store.read_table(landed, f"{feed.name}.parquet")) for feed in use_case.feeds}
    return store.commit(
        use_case=use_case.name,
        step=STEP,
        partition=partition,
        kind="profile",
        files={"profile.json": json.dumps(profiles, indent=1).encode()},
        inputs={"landed": [landed]},
        metrics={name: profile_summary(profile) for name, profile in profiles.items()},
        rows=landed.rows,
    )
