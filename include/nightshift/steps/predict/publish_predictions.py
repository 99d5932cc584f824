"""Publish one partition's audited scores to the warehouse, in one transaction and once."""

from __future__ import annotations

import json
import logging
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.parquet_file import row_batches
from nightshift.deployment import Role
from nightshift.documents.predict import ModelChoice, ScoredModel
from nightshift.errors import AuditFailed
from nightshift.io.provenance import CURRENT_ATTEMPT
from nightshift.io.warehouse.publications import Publication
from nightshift.services.live_scores import ALL_SCORES, SCORES
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)

STEP = "publish_predictions"


def run(context: StepContext, *, scores: ArtifactRef, audited: ArtifactRef) -> ArtifactRef:
    """Replace the partition's rows of `predictions` and, with the shadows' scores, of `shadow_predictions`.

    Commits `publication.json`. Publishing the same scores of the same version and calibration again writes nothing.
    Having published nothing, raises Superseded if the partition was scored again, and AuditFailed if `audited` is not
    the audit of these scores or did not pass, if the warehouse counts other rows, or if the kill switch was turned on
    after the versions were chosen. Raises StatusChanged if another run publishes meanwhile.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    replaces = context.status_tag(STEP)
    context.check_current("score", scores)
    audited_scores = [ref.sha256 for ref in store.manifest(audited).inputs["scores"]]
    # The file, not the metrics: only what is hashed decides.
    checks = json.loads(store.read(audited, "audit.json"))
    if audited_scores != [scores.sha256] or not checks or not all(check["passed"] for check in checks):
        raise AuditFailed(
            "NS-PUBLISH-002",
            f"{audited.uri} is not a passed audit of {scores.uri}: run the audit of {partition} again.",
        )
    inputs = store.manifest(scores).inputs
    primary = store.read_document(inputs["model_choice"][0], ModelChoice).primary
    with store.opened(scores, SCORES) as path:
        file = pq.ParquetFile(path)
        publication = _publication(context, scores, file, primary, inputs["calibration"][0])
        warehouse = context.warehouse
        batches = pa.RecordBatchReader.from_batches(file.schema_arrow, row_batches(file))
        written = warehouse.publish_predictions(
            publication, batches, check=lambda: context.check_current("score", scores)
        )
    with store.opened(scores, ALL_SCORES) as path:
        everything = ds.dataset(path)
        shadows = everything.scanner(filter=pc.field("model_version") != primary.model_version)
        warehouse.replace_partition("shadow_predictions", partition, shadows.to_reader())
    state = "published" if written else "already published"
    log.info("%s %s: %d rows %s", use_case.name, partition, publication.rows, state)
    facts = publication.model_dump(mode="json", exclude={"dag_id", "run_id"}) | {"publish_id": publication.publish_id}
    return context.commit(
        STEP,
        kind="publication",
        files={"publication.json": canonical_json(facts)},
        inputs={"scores": [scores], "audit": [audited]},
        metrics={"written": written},
        rows=publication.rows,
        replaces=replaces,
    )


def _publication(
    context: StepContext, scores: ArtifactRef, file: pq.ParquetFile, primary: ScoredModel, calibration: ArtifactRef
) -> Publication:
    """What is published; raises AuditFailed unless the scores are for one day."""
    use_case, partition = context.use_case, context.partition
    days = file.read(columns=[use_case.prediction_date])[use_case.prediction_date].unique().to_pylist()
    if len(days) != 1:
        raise AuditFailed(
            "NS-PUBLISH-003",
            f"{use_case.name}: the scores of partition {partition} are for {len(days)} days ({days[:5]}); a partition "
            f"predicts one {use_case.prediction_date}. Correct {use_case.scoring_spine.name}.",
        )
    attempt = CURRENT_ATTEMPT.get()
    return Publication(
        partition=partition,
        prediction_date=days[0],
        spec_id=primary.spec_id,
        model_version=primary.model_version,
        role=cast(Role, primary.role),  # Publication checks it
        model=primary.model,
        calibration=calibration,
        scores=scores,
        rows=file.metadata.num_rows,
        dag_id=attempt.dag_id if attempt else "",
        run_id=attempt.run_id if attempt else "",
    )
