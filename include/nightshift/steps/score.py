"""Score every row that the scheduled input names, with the chosen model on the features it names.

Artifact: `scores.parquet` (prediction key, extra columns, score, decision) and `features.parquet`
(prediction key and the model's features, for drift checks), rows sorted by key in both.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef
from nightshift.core.feature_computation import compute_spine
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.errors import PartitionRejected
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.curated import load_feeds
from nightshift.io.feature_store import historical_features
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

SCORES = "scores.parquet"
FEATURES = "features.parquet"


def run(
    use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date, *, model_choice: ArtifactRef
) -> ArtifactRef:
    """Commit the partition's scores; inputs are the choice, the model, the curated data and the features.

    Features are held for `settings.score_batch_rows` rows at a time. Raises PartitionRejected if the
    partition's data was refused and PartitionNotReady if its features are still missing.
    """
    choice = json.loads(store.read(model_choice, "model_choice.json"))
    model = ArtifactRef.model_validate(choice["model"])
    signature = Signature.from_json(store.read(model, "signature.json"))
    session = load_session(store.read(model, "model.onnx"), settings.threads)
    features_ref = store.current(use_case.name, "publish_features", partition)
    scheduled, curated = _scheduled(use_case, store, partition)

    def score_batch(batch: pa.Table) -> dict[str, pa.Table]:
        pinned = {partition: features_ref}
        known = historical_features(use_case, settings, store, signature.feature_service, batch, partitions=pinned)
        return _scored(use_case, signature, known, score(session, signature, known))

    files = _written(score_batch(batch) for batch in _batches(scheduled, settings.score_batch_rows))
    rows = scheduled.num_rows
    log.info("%s %s: %d rows scored by %s", use_case.name, partition, rows, choice["model_version"])
    return store.commit(
        use_case=use_case.name,
        step="score",
        partition=partition,
        kind="scores",
        files=files,
        inputs={
            "model_choice": [model_choice],
            "model": [model],
            "curated": curated,
            "features": [features_ref],
        },
        parameters={"feature_service": signature.feature_service, "decision_threshold": use_case.decision_threshold},
        rows=rows,
    )


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


def _scored(
    use_case: UseCase, signature: Signature, known: pa.Table, scores: npt.NDArray[np.float64]
) -> dict[str, pa.Table]:
    """The rows of both files for one batch: `known` has keys, extra columns and features."""
    key = [column.name for column in use_case.prediction_key]
    extra = [column.name for column in use_case.prediction_extra]
    published = known.select([*key, *extra]).append_column(use_case.score, pa.array(scores, pa.float64()))
    return {
        SCORES: published.append_column("decision", pa.array(scores >= use_case.decision_threshold)),
        FEATURES: known.select(list(dict.fromkeys([*key, *signature.numeric, *signature.categorical]))),
    }


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
