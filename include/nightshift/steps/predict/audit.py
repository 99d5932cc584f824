"""Decide whether one partition's scores may be published."""

from __future__ import annotations

import json
from dataclasses import asdict

import pyarrow.dataset as ds

from nightshift.artifact import ArtifactRef, Decision
from nightshift.core.monitoring.score_audit import audit_scores
from nightshift.errors import AuditFailed
from nightshift.services.curated import open_scoring_spine
from nightshift.services.live_scores import SCORES
from nightshift.steps.context import StepContext


def run(context: StepContext, *, scores: ArtifactRef) -> ArtifactRef:
    """Commit `audit.json`: every check with its observed value. If a check fails, the artifact is committed, the
    partition's audit is rejected, and AuditFailed is raised.

    The expected number of rows is counted from the curated data, not from the scores.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    with open_scoring_spine(use_case, store, partition) as spine:
        # Also checks that the rows are for the day, and in the window, of the partition.
        scheduled = sum(batch.num_rows for batch in spine.batches(context.settings.score_batch_rows))
    with store.opened(scores, SCORES) as path:
        checks = audit_scores(
            ds.dataset(path),
            key=use_case.key_columns,
            score=use_case.score,
            scheduled_rows=scheduled,
            policy=use_case.audit,
        )
    failed = [check for check in checks if not check.passed]
    ref = context.commit(
        "audit",
        kind="audit",
        files={"audit.json": json.dumps([asdict(check) for check in checks], indent=1).encode()},
        inputs={"scores": [scores]},
        metrics={"passed": not failed, "checks": len(checks), "failed": [check.name for check in failed]},
        rows=scores.rows,
        current=not failed,
    )
    if failed:
        failures = "; ".join(
            f"{check.name}: {check.observed}, must be {check.bound}"
            + (f" ({', '.join(check.examples)})" if check.examples else "")
            for check in failed
        )
        store.decide(use_case.name, "audit", partition, Decision(status="rejected", ref=ref, reason=failures))
        raise AuditFailed(
            "NS-PUBLISH-004",
            f"{use_case.name}: the scores of partition {partition} are not published ({failures}). "
            f"Look at {scores.uri} and {ref.uri}audit.json; the table keeps what it had.",
        )
    return ref
