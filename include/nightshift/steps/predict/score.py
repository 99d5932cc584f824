"""Score every row that the scheduled input names, with the chosen models on the features they name.

Artifact: `scores.parquet` (prediction key, extra columns, score, decision, and the version of the model
that answered), `features.parquet` (prediction key and the serving model's features, for drift checks)
and, where a model was asked beside the one that serves, `shadow.parquet` (prediction key, both scores,
and whether the one beside is published). Rows are sorted by key in all of them.

The model beside answers the canary's share of the rows. If it cannot be asked about every row, or its
answers would not pass the audit, the serving model answers all of them: the night is published, and
there is no `shadow.parquet`; the manifest's metrics say why.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef, sha256_hex
from nightshift.core.canary import canary_rows
from nightshift.core.execution import DEFAULT_EXECUTION
from nightshift.core.feature_computation import compute_spine
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.core.score_audit import audit_scores
from nightshift.errors import AuditFailed, FeatureContractError, PartitionRejected, TransientError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.curated import load_feeds
from nightshift.io.execution_cache import known_execution
from nightshift.io.feature_store import historical_features
from nightshift.settings import Settings
from nightshift.usecase import UseCase

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

log = logging.getLogger(__name__)

SCORES = "scores.parquet"
FEATURES = "features.parquet"
SHADOW = "shadow.parquet"

Known = Callable[[str], pa.Table]
"""The rows of one batch with the features of a service, by its name."""


class BesideFailed(Exception):
    """The model beside could not be asked, or its answers cannot be used; the cause says why."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be asked. `share`: of the rows, published from it."""

    version: str
    signature: Signature
    session: InferenceSession
    batch_rows: int
    share: float

    def ask(self, rows: pa.Table) -> npt.NDArray[np.float64]:
        """P(label = 1) for each row: float64 [n]."""
        return score(self.session, self.signature, rows, batch_rows=self.batch_rows)


def run(
    use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date, *, model_choice: ArtifactRef
) -> ArtifactRef:
    """Commit the partition's scores; inputs are the choice, the models, the curated data and the features.

    Features are held for `settings.score_batch_rows` rows at a time. Raises PartitionRejected if the
    partition's data was refused and PartitionNotReady if its features are still missing.
    """
    choice = json.loads(store.read(model_choice, "model_choice.json"))
    serving = _load(use_case, store, choice)
    features_ref = store.current(use_case.name, "publish_features", partition)
    scheduled, curated = _scheduled(use_case, store, partition)

    def features_of(batch: pa.Table) -> Known:
        pinned = {partition: features_ref}
        known: dict[str, pa.Table] = {}

        def of_service(service: str) -> pa.Table:
            if service not in known:
                known[service] = historical_features(use_case, settings, store, service, batch, partitions=pinned)
            return known[service]

        return of_service

    def files(beside: LoadedModel | None) -> dict[str, bytes]:
        batches = _batches(scheduled, settings.score_batch_rows)
        return _written(_scored(use_case, features_of(batch), serving, beside) for batch in batches)

    absent = ""
    try:
        scored = files(_load_beside(use_case, store, choice.get("beside")))
        _check_beside(use_case, scored, scheduled.num_rows)
    except BesideFailed as failed:
        absent = f"{type(failed.__cause__).__name__}: {failed.__cause__}"
        version = choice["beside"]["model_version"]
        log.exception("%s %s: %s is left out, %s answers alone", use_case.name, partition, version, serving.version)
        scored = files(None)
    rows = scheduled.num_rows
    log.info("%s %s: %d rows scored by %s", use_case.name, partition, rows, choice["model_version"])
    asked = {"beside": [ArtifactRef.model_validate(choice["beside"]["model"])]} if SHADOW in scored else {}
    return store.commit(
        use_case=use_case.name,
        step="score",
        partition=partition,
        kind="scores",
        files=scored,
        inputs={
            "model_choice": [model_choice],
            "model": [ArtifactRef.model_validate(choice["model"])],
            **asked,
            "curated": curated,
            "features": [features_ref],
        },
        parameters={
            "feature_service": serving.signature.feature_service,
            "decision_threshold": use_case.decision_threshold,
        },
        metrics={"beside_absent": absent} if absent else {},
        rows=rows,
    )


def _load(use_case: UseCase, store: ArtifactStore, chosen: Mapping[str, Any]) -> LoadedModel:
    """The model, executed as was found to be fastest on this machine: its answers are the same either way."""
    model = ArtifactRef.model_validate(chosen["model"])
    signature = Signature.from_json(store.read(model, "signature.json"))
    graph = store.read(model, "model.onnx")
    execution = known_execution(store, use_case.name, sha256_hex(graph)) or DEFAULT_EXECUTION
    session = load_session(graph, execution=execution)
    return LoadedModel(
        chosen["model_version"], signature, session, execution.batch_rows, float(chosen.get("share", 0.0))
    )


def _load_beside(use_case: UseCase, store: ArtifactStore, chosen: Mapping[str, Any] | None) -> LoadedModel | None:
    with _excused():
        return None if chosen is None else _load(use_case, store, chosen)


@contextmanager
def _excused() -> Iterator[None]:
    """What fails within fails the model beside, not the night. What may succeed later is tried again instead."""
    try:
        yield
    except TransientError:
        raise
    except Exception as error:
        raise BesideFailed from error


def _scheduled(use_case: UseCase, store: ArtifactStore, partition: date) -> tuple[pa.Table, list[ArtifactRef]]:
    """The scoring spine's rows with `event_timestamp`, sorted by key, and the artifacts read."""
    feeds = load_feeds(store, use_case, [feed.name for feed in use_case.feeds], partition, partition)
    refused = next((feed.missing[partition] for feed in feeds.values() if partition in feed.missing), None)
    if refused is not None:
        raise PartitionRejected(f"{use_case.name}: the data of partition {partition} was refused: {refused}")
    rows = compute_spine(
        use_case.scoring_spine,
        {name: feed.table for name, feed in feeds.items()},
        partition=partition,
        cutoff=use_case.cutoff,
        key=tuple(column.name for column in use_case.prediction_key),
    )
    refs = {ref.sha256: ref for feed in feeds.values() for ref in feed.refs}
    return rows, list(refs.values())


def _scored(use_case: UseCase, known: Known, serving: LoadedModel, beside: LoadedModel | None) -> dict[str, pa.Table]:
    """The rows of all files for one batch."""
    key = [column.name for column in use_case.prediction_key]
    extra = [column.name for column in use_case.prediction_extra]
    rows = known(serving.signature.feature_service)
    scores = serving.ask(rows)
    versions = np.full(len(scores), serving.version, dtype=object)
    shadow = {}
    if beside is not None:
        with _excused():
            answers = _ask_beside(key, rows, known(beside.signature.feature_service), beside)
        chosen = canary_rows(rows, key, beside.share)
        columns = {"serving_score": scores, "beside_score": answers, "published": chosen}
        shadow = {SHADOW: _with(rows.select(key), columns)}
        scores, versions = np.where(chosen, answers, scores), np.where(chosen, beside.version, versions)
    columns = {
        use_case.score: scores,
        "decision": scores >= use_case.decision_threshold,
        "model_version": versions.astype(str),
    }
    features = dict.fromkeys([*key, *serving.signature.numeric, *serving.signature.categorical])
    return {SCORES: _with(rows.select([*key, *extra]), columns), FEATURES: rows.select(list(features)), **shadow}


def _ask_beside(key: list[str], rows: pa.Table, its_rows: pa.Table, beside: LoadedModel) -> npt.NDArray[np.float64]:
    if not its_rows.select(key).equals(rows.select(key)):
        raise FeatureContractError(
            f"The feature service {beside.signature.feature_service} returned other rows than it was asked for."
        )
    return beside.ask(its_rows)


def _with(table: pa.Table, columns: Mapping[str, npt.NDArray[Any]]) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


def _check_beside(use_case: UseCase, scored: Mapping[str, bytes], rows: int) -> None:
    """Its answers have to pass the audit as if all were published: what it publishes must not hold up the night."""
    if SHADOW not in scored:
        return
    table = pq.read_table(pa.BufferReader(scored[SHADOW]))
    key = [column.name for column in use_case.prediction_key]
    checks = audit_scores(table, key=key, score="beside_score", scheduled_rows=rows, policy=use_case.audit)
    failed = [f"{check.name}: {check.observed}, must be {check.bound}" for check in checks if not check.passed]
    if failed:
        with _excused():
            raise AuditFailed(f"its scores would not be published ({'; '.join(failed)})")


def _written(batches: Iterable[Mapping[str, pa.Table]]) -> dict[str, bytes]:
    """Parquet files by name, one row group a batch; only one batch is held at a time."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for batch in batches:
            for name, part in batch.items():
                if name not in writers:
                    writer = pq.ParquetWriter(Path(folder) / name, part.schema, compression="zstd")
                    writers[name] = stack.enter_context(writer)
                writers[name].write_table(part)
        stack.close()
        return {name: (Path(folder) / name).read_bytes() for name in writers}


def _batches(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Slices of the table of at most `rows` rows; one empty slice of an empty table."""
    yield table.slice(0, rows)
    for start in range(rows, table.num_rows, rows):
        yield table.slice(start, rows)
