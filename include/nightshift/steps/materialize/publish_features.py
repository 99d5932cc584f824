"""Audit a partition's feature tables against their Feast definitions and publish them to the offline store.

Artifact: the audited `<view>.parquet`, byte for byte. Metrics: `rows` {view: n}, `null_share`
{view: {feature: share}}.
"""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef
from nightshift.core.features.feature_audit import audit_view
from nightshift.errors import FeatureContractError
from nightshift.io.feast.feature_store import STEP, declared_views
from nightshift.services.curated import delivered_spine
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
    spine = delivered_spine(use_case, store, partition, use_case.scoring_spine).rows
    files = {name: store.read(features, f"{name}.parquet") for name in views}
    tables = {name: pq.read_table(pa.BufferReader(body)) for name, body in files.items()}
    null_share = {
        name: audit_view(
            name,
            table,
            join_keys=views[name].join_keys,
            declared=views[name].fields,
            spine=spine,
            cutoff=use_case.cutoff(partition),
        )
        for name, table in tables.items()
    }
    log.info("%s %s: %d feature views published for %d rows", use_case.name, partition, len(tables), spine.num_rows)
    return context.commit(
        STEP,
        kind="features",
        files={f"{name}.parquet": body for name, body in files.items()},
        inputs={"features": [features]},
        parameters={"feature_service": use_case.features.service},
        metrics={
            "rows": {name: table.num_rows for name, table in tables.items()},
            "null_share": null_share,
        },
        rows=sum(table.num_rows for table in tables.values()),
        replaces=replaces,
    )
