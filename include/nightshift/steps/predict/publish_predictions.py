"""Publish one partition's audited scores to the warehouse, all or nothing, once.

Both answers of a night on which a model was asked beside the one that serves go to shadow_predictions.
"""

from __future__ import annotations

import json
import logging
from datetime import date

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.errors import AuditFailed
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.provenance import CURRENT_ATTEMPT
from nightshift.io.publications import Publication
from nightshift.io.shadow import shadow_rows
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    scores: ArtifactRef,
    audited: ArtifactRef,
) -> ArtifactRef:
    """Make `scores` the partition's rows of `predictions`; commit `publication.json`.

    Publishing the same scores of the same model again writes nothing, and a night that a person switched
    from these very scores to one model's answers stays switched; see io.switch. Raises AuditFailed if
    `audited` is not the audit of these scores or did not pass, if the warehouse counts other rows, or if
    the kill switch was turned on after the models were chosen.
    """
    if store.current(use_case.name, "score", partition) != scores:
        raise AuditFailed(
            f"{scores.uri} was superseded by a newer scoring of {partition}, which another run publishes. "
            f"To publish again, clear {use_case.name}.predict from its first task."
        )
    audit = store.manifest(audited)
    if [ref.sha256 for ref in audit.inputs["scores"]] != [scores.sha256] or not audit.metrics["passed"]:
        raise AuditFailed(f"{audited.uri} is not a passed audit of {scores.uri}: run the audit of {partition} again.")
    (choice_ref,) = store.manifest(scores).inputs["model_choice"]
    choice = json.loads(store.read(choice_ref, "model_choice.json"))
    table = store.read_table(scores, "scores.parquet")
    days = table[use_case.prediction_date].unique().to_pylist()
    if len(days) != 1:
        raise AuditFailed(
            f"{use_case.name}: the scores of partition {partition} are for {len(days)} days ({days[:5]}); a partition "
            f"predicts one {use_case.prediction_date}. Correct {use_case.scoring_spine.name}."
        )
    attempt = CURRENT_ATTEMPT.get()
    publication = Publication(
        partition=partition,
        prediction_date=days[0],
        model_version=choice["model_version"],
        role=choice["role"],
        model=ArtifactRef.model_validate(choice["model"]),
        scores=scores,
        rows=table.num_rows,
        dag_id=attempt.dag_id if attempt else "",
        run_id=attempt.run_id if attempt else "",
    )
    warehouse = Warehouse(settings, use_case)
    killed = warehouse.life_as_of(partition).killed
    if killed is not None and choice["role"] != "fallback":
        raise AuditFailed(
            f"{use_case.name}: the models of {partition} were chosen before {killed.decided_by} turned on the kill "
            f"switch as of {killed.partition}; {choice['model_version']} publishes nothing. Clear "
            f"{use_case.name}.predict of {partition} from resolve_model."
        )
    switched_to = _switched_by_hand(store, warehouse, partition, scores)
    written = False
    if switched_to:
        log.warning(
            "%s %s: a person switched this night to %s, and so it stays; rollback_model switches it to another",
            use_case.name, partition, switched_to,
        )  # fmt: skip
    else:
        written = warehouse.publish_predictions(publication, table)
        warehouse.record_shadow(partition, shadow_rows(store, scores, choice))
        said = "published" if written else "already there"
        log.info("%s %s: %d rows %s", use_case.name, partition, table.num_rows, said)
    stated = publication.model_dump(mode="json", exclude={"dag_id", "run_id"}) | {"publish_id": publication.publish_id}
    return store.commit(
        use_case=use_case.name,
        step="publish_predictions",
        partition=partition,
        kind="publication",
        files={"publication.json": canonical_json(stated)},
        inputs={"scores": [scores], "audit": [audited]},
        metrics={"written": written, "switched_by_hand_to": switched_to},
        rows=table.num_rows,
    )


def _switched_by_hand(store: ArtifactStore, warehouse: Warehouse, partition: date, scores: ArtifactRef) -> str | None:
    """The model that a person switched the published night to, from these very scores; None if nobody did."""
    shown = warehouse.publication(partition)
    if shown is None or shown["scores_sha256"] == scores.sha256:
        return None
    ref = ArtifactRef(uri=shown["scores_uri"], sha256=shown["scores_sha256"], kind=scores.kind)
    came_from = store.manifest(ref).inputs.get("scores", [])
    return str(shown["model_version"]) if [one.sha256 for one in came_from] == [scores.sha256] else None
