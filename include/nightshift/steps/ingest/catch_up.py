"""Look back at the partitions before this one: which to ingest again, which deliveries changed, what is outdated.

Artifact: `catch_up.json`, a CatchUp document. The DAG runs `run_again` at once; the rest is for a person, and an alert.
"""

from __future__ import annotations

import json
import logging
from datetime import timedelta

from nightshift.artifact import ArtifactRef, sha256_hex
from nightshift.core.monitoring.left_behind import left_behind
from nightshift.documents.ingest import LOOKED_BACK_DAYS, CatchUp
from nightshift.partitions import partition_range
from nightshift.services.alerts import raise_alert
from nightshift.services.catch_up import STEP, changed_files, outdated_features, why_again
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, published: ArtifactRef, may_run: bool = False) -> ArtifactRef:
    """Commit what the `LOOKED_BACK_DAYS` partitions before this one, and the later ones that read it, lack.

    Without `may_run`, no partition is to be run again, as in a backfill, which runs them itself. What is left to a
    person is alerted, once for each partition and cause. Receivers do not have to answer, nor does the warehouse,
    unless a feed reads the predictions of another use case.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    first = max(partition - timedelta(days=LOOKED_BACK_DAYS), use_case.first_partition)
    window = partition_range(first, partition - timedelta(days=1))
    changed = {day: files for day in window if (files := changed_files(store, use_case, day))}
    document = CatchUp(
        run_again=why_again(context.settings, store, use_case, window, list(changed)) if may_run else {},
        changed={day: tuple(files) for day, files in changed.items()},
        changed_to={day: sha256_hex(json.dumps(files).encode()) for day, files in changed.items()},
        outdated=outdated_features(store, use_case, [*window, partition]),
    )
    for day, reason in document.run_again.items():
        log.warning("%s %s is run again: %s", use_case.name, day, reason)
    ref = context.commit(
        STEP,
        kind="catch_up",
        files=document.to_files(),
        inputs={"published": [published]},
        metrics={"run_again": len(document.run_again), "outdated": len(document.outdated)},
    )
    if alerts := [one.alert for one in left_behind(use_case.name, document)]:
        raise_alert(context.settings, use_case, *alerts)
    return ref
