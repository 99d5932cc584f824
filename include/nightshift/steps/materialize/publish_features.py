"""Audit a partition's feature tables against their Feast definitions and publish them to the offline store.

Artifact: the audited `<view>.parquet`, byte for byte. Metrics: `rows` {view: n}, `null_share`
{view: {feature: share}}.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack

import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef
from nightshift.core.features.feature_audit import audit_view
from nightshift.errors import FeatureContractError
from nightshift.io.feast.feature_store import STEP, declared_views
from nightshift.services.curated import open_scoring_spine
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, features: ArtifactRef) -> ArtifactRef:
    """Publish the feature tables.

    Having published nothing, raises FeatureContractError if one breaks its contract, Superseded if they were built
    again, StatusChanged if another run publishes meanwhile.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    replaces = context.status_tag(STEP)
    context.check_current("build_features", features)
    views = declared_views(use_case)
    declared = {table.name: table.join_keys for table in use_case.features.tables}
    if declared != {name: view.join_keys for name, view in views.items()}:
        raise FeatureContractError(
            "NS-FEATURE-019",
            f"{use_case.name} declares the feature tables {declared}, but {use_case.feature_repo} serves "
            f"{ {name: view.join_keys for name, view in views.items()} }. Names and join keys must be equal.",
        )
    with ExitStack() as stack:
        files = {name: stack.enter_context(store.opened(features, f"{name}.parquet")) for name in views}
        spine = stack.enter_context(open_scoring_spine(use_case, store, partition))
        spine.check()
        null_share = {
            name: audit_view(
                name,
                path,
                spine.session,
                join_keys=views[name].join_keys,
                declared=views[name].fields,
                cutoff=use_case.cutoff(partition),
            )
            for name, path in files.items()
        }
        rows = {name: pq.read_metadata(path).num_rows for name, path in files.items()}
        log.info("%s %s: %d feature views published for %d rows", use_case.name, partition, len(files), spine.rows)
        return context.commit(
            STEP,
            kind="features",
            files={f"{name}.parquet": path for name, path in files.items()},
            inputs={"features": [features]},
            parameters={"feature_service": use_case.features.service},
            metrics={"rows": rows, "null_share": null_share},
            rows=sum(rows.values()),
            replaces=replaces,
        )
