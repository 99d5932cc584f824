"""Load a published partition of features into the online store.

Artifact: `online_load.json` {view: rows}. Metrics: `loaded` (false if a newer partition was
loaded before, which is then kept), `expired` {view: values deleted}.
"""

from __future__ import annotations

import json
import logging
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from nightshift.artifact import ArtifactRef
from nightshift.io.feast.feature_store import drop_expired, loading_online, open_feature_store
from nightshift.io.feast.offline_partitions import PublishedPartitions
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, published: ArtifactRef) -> ArtifactRef:
    """Materialize exactly this partition; idempotent.

    A partition older than the values online is not loaded: the online store holds the newest values,
    and runs may be late or out of order. Raises Superseded if the partition was published again.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    feast = open_feature_store(use_case, settings)
    cutoff = use_case.cutoff(partition)
    views = [table.name for table in use_case.features.tables]
    rows = store.manifest(published).metrics["rows"]
    with loading_online(use_case, settings):
        # Another process may have published and loaded others while this one waited for the lock.
        context.check_current("publish_features", published)
        feast.refresh_registry()  # type: ignore[no-untyped-call, unused-ignore]
        loaded_up_to = [feast.get_feature_view(view).most_recent_end_time for view in views]
        newest = max(filter(None, loaded_up_to), default=None)
        loaded = newest is None or newest <= cutoff
        if loaded:
            feast.config.offline_store.read_from(PublishedPartitions(store, {partition: published}))
            progress = StringIO()
            try:
                with redirect_stdout(progress), redirect_stderr(progress):
                    feast.materialize(start_date=cutoff, end_date=cutoff, feature_views=views)
            finally:
                log.debug("feast materialize printed: %s", progress.getvalue())
            log.info("%s %s: %d feature views loaded online", use_case.name, partition, len(views))
        else:
            log.warning("%s %s: not loaded, the online store has values of %s", use_case.name, partition, newest)
        expired = drop_expired(feast, views, cutoff) if loaded else {}
    return context.commit(
        "load_online",
        kind="online_load",
        files={"online_load.json": json.dumps({view: rows[view] for view in views}, indent=1).encode()},
        inputs={"published": [published]},
        parameters={"feature_service": use_case.features.service},
        metrics={"loaded": loaded, "expired": expired},
        rows=sum(rows[view] for view in views),
    )
