"""Profile every column of the landed tables: `profile.json`, and a summary in the manifest."""

from __future__ import annotations

import pyarrow.dataset as ds

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.ingest.profile import profile_summary, profile_table
from nightshift.documents.ingest import TableProfile
from nightshift.steps.context import StepContext

STEP = "profile"


def run(context: StepContext, *, landed: ArtifactRef) -> ArtifactRef:
    """Profile all feeds of the landed artifact; `profile.json` maps feed to core.profile's profile."""
    profiles: dict[str, TableProfile] = {}
    for feed in context.use_case.feeds:
        with context.store.opened(landed, f"{feed.name}.parquet") as rows:
            profiles[feed.name] = profile_table(ds.dataset(rows))
    return context.commit(
        STEP,
        kind="profile",
        files={
            "profile.json": canonical_json(
                {name: profile.model_dump(mode="json") for name, profile in profiles.items()}
            )
        },
        inputs={"landed": [landed]},
        metrics={name: profile_summary(profile) for name, profile in profiles.items()},
        rows=landed.rows,
    )
