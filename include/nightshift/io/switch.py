"""Switch a night that is published already from one model's answers to the other's, without scoring anything.

On a night with a model beside the one that serves, both were asked about every row, and the scores'
artifact holds both answers. A switch publishes the night anew from the answers of one of them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.score_audit import audit_scores
from nightshift.deployment import Role
from nightshift.errors import AuditFailed, UnknownModel
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.provenance import CURRENT_ATTEMPT
from nightshift.io.publications import Publication
from nightshift.io.shadow import has_shadow, shadow_rows
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

SCORES = "scores.parquet"
PUBLISHED = "published"


def switch_published(
    use_case: UseCase,
    settings: Settings,  # noqa: ARG001 - whoever switches has them, as every step does
    store: ArtifactStore,
    warehouse: Warehouse,
    partition: date,
    to_version: str,
) -> bool:
    """Publish every row of a partition from the answers of one of the two models it was scored by.

    The night stays switched when its `predict` runs again and comes to the same scores. The way back is
    the same call with the other version; a canary's mixture of both does not come back. Returns False,
    having written nothing, if these answers are published already. Raises PartitionNotReady if the
    partition was never published, UnknownModel if `to_version` was not asked about that night, and AuditFailed if its
    answers do not pass the audit; then the night stays as it is.
    """
    published = store.current(use_case.name, "publish_predictions", partition)
    (scores,) = store.manifest(published).inputs["scores"]
    (choice_ref,) = store.manifest(scores).inputs["model_choice"]
    choice = json.loads(store.read(choice_ref, "model_choice.json"))
    beside = choice["beside"] if has_shadow(store, scores) else None
    known: dict[str, Mapping[str, Any]] = {chosen["model_version"]: chosen for chosen in (choice, beside) if chosen}
    if to_version not in known:
        raise UnknownModel(
            f"{use_case.name}: partition {partition} was scored by {' and '.join(known)}, not by {to_version}; it can "
            f"be switched to a model that was asked that night. Run {use_case.name}.predict again for any other."
        )
    to_serving = to_version == choice["model_version"]
    chosen = known[to_version]
    table, shadow = store.read_table(scores, SCORES), shadow_rows(store, scores, choice)
    if shadow is not None and not (to_serving and _answered_by(table, to_version)):
        table = _switched(use_case, table, shadow, to_version, to_serving=to_serving)
        _audit(use_case, table, partition, to_version)
        scores = _commit(use_case, store, partition, scores, table, chosen)
    attempt = CURRENT_ATTEMPT.get()
    publication = Publication(
        partition=partition,
        prediction_date=pc.max(table[use_case.prediction_date]).as_py(),
        model_version=to_version,
        role=_role(choice, beside, to_serving=to_serving),
        model=ArtifactRef.model_validate(chosen["model"]),
        scores=scores,
        rows=table.num_rows,
        dag_id=attempt.dag_id if attempt else "",
        run_id=attempt.run_id if attempt else "",
    )
    written = warehouse.publish_predictions(publication, table)
    if shadow is not None:
        all_beside = pa.array(np.full(shadow.num_rows, not to_serving))
        warehouse.record_shadow(
            partition, shadow.set_column(shadow.column_names.index(PUBLISHED), PUBLISHED, all_beside)
        )
    said = "switched to" if written else "answered already by"
    log.info("%s %s: %d rows %s %s", use_case.name, partition, table.num_rows, said, to_version)
    return written


def _answered_by(table: pa.Table, version: str) -> bool:
    """Whether one model answered every row."""
    return "model_version" not in table.column_names or table["model_version"].unique().to_pylist() == [version]


def _role(choice: Mapping[str, Any], beside: Mapping[str, Any] | None, *, to_serving: bool) -> Role:
    if to_serving or beside is None:
        role: Role = choice["role"]
        return role
    return "champion" if beside["stage"] == "standby" else "challenger"


def _switched(use_case: UseCase, table: pa.Table, shadow: pa.Table, version: str, *, to_serving: bool) -> pa.Table:
    """The night's rows with the stored answers of one model. Both files have the same rows, sorted by key."""
    answers = shadow["serving_score" if to_serving else "beside_score"].to_numpy()
    columns = {
        use_case.score: pa.array(answers),
        "decision": pa.array(answers >= use_case.decision_threshold),
        "model_version": pa.array(np.full(len(answers), version)),
    }
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def _audit(use_case: UseCase, table: pa.Table, partition: date, version: str) -> None:
    checks = audit_scores(
        table,
        key=[column.name for column in use_case.prediction_key],
        score=use_case.score,
        scheduled_rows=table.num_rows,
        policy=use_case.audit,
    )
    failed = [f"{check.name}: {check.observed}, must be {check.bound}" for check in checks if not check.passed]
    if failed:
        raise AuditFailed(
            f"{use_case.name}: partition {partition} was not switched to {version}, whose scores do not pass the "
            f"audit ({'; '.join(failed)}). The table keeps what it had."
        )


def _commit(
    use_case: UseCase,
    store: ArtifactStore,
    partition: date,
    scores: ArtifactRef,
    table: pa.Table,
    chosen: Mapping[str, Any],
) -> ArtifactRef:
    """The rows as an artifact that leads back to the scores they came from; it does not count for the partition."""
    manifest = store.manifest(scores)
    return store.commit(
        use_case=use_case.name,
        step="score",
        partition=partition,
        variant=f"all-{chosen['model_version']}",
        kind="scores",
        files={SCORES: table},
        inputs={
            **manifest.inputs,
            "model": [ArtifactRef.model_validate(chosen["model"])],
            "scores": [scores],
        },
        parameters=manifest.parameters,
        rows=table.num_rows,
        current=False,
    )
