"""Score every row of the scoring spine with each chosen version, on the features of its signature.

Artifact: `scores.parquet` (what is published: prediction key, extra columns, calibrated score, decision,
model_version, and the columns of core.inference.certainty), `all_scores.parquet` (the scores of every version: key,
role, spec_id, model_version, raw_score, score), `features.parquet` (key and the primary's features) and
`summary.parquet` (the primary's scores before calibration and their certainty, see core.monitoring.day_summary). Rows
are sorted by key; in `all_scores.parquet` by batch and version first.

For a canary's share of the rows the challenger's score and version are published. A shadow that cannot score every
row, or a canary whose scores would not pass the audit, is left out with the reason in the metrics; the primary is
still published. If a version's domain cannot be read, `out_of_range` and `out_of_domain` are null, and the metrics have
the reason.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef
from nightshift.core.arrays import Floats
from nightshift.core.inference.calibration import calibrated
from nightshift.core.inference.certainty import certainty_columns
from nightshift.core.inference.domain import Domain, locate
from nightshift.core.inference.onnx_model import Signature, load_session
from nightshift.core.inference.onnx_model import score as raw_scores
from nightshift.core.lifecycle.canary import canary_rows
from nightshift.core.monitoring.day_summary import summarise
from nightshift.core.monitoring.score_audit import PROBABILITY_CHECKS, audit_scores
from nightshift.declare.use_case import UseCase
from nightshift.documents.predict import Calibration, ModelChoice, ScoredModel, SpecCalibration
from nightshift.errors import (
    AuditFailed,
    FeatureContractError,
    PartitionNotReady,
    PartitionRejected,
    Superseded,
    TerminalError,
    TransientError,
)
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.feast.feature_store import historical_features
from nightshift.io.feast.offline_partitions import PublishedPartitions
from nightshift.services.curated import ScoringSpine, open_scoring_spine
from nightshift.services.day_summaries import SCORES_SOURCE, SUMMARY
from nightshift.services.live_scores import ALL_SCORES, SCORES
from nightshift.steps.context import StepContext

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

log = logging.getLogger(__name__)

FEATURES = "features.parquet"
OWN = "own"
"""The primary's scores and certainty, without a canary's: summarised and not kept."""
MONITORED = ("out_of_range", "out_of_domain", "certainty")
BATCH_ROWS = 20_000
"""Rows per call of the graph: bounds the memory of its intermediate results."""

Features = Callable[[str], pa.Table]
"""The rows of one batch with the features of a service, by its name."""


class ShadowFailed(Exception):
    """A shadow could not score, or its scores cannot be used; the cause says why."""

    def __init__(self, model_version: str) -> None:
        super().__init__(model_version)
        self.model_version = model_version


@dataclass(frozen=True)
class LoadedVersion:
    """A loaded version with its entry in the choice and its spec's calibration.

    `domain`: None for a shadow that publishes nothing, and for a version that has none; `no_domain`: why it could not
    be read.
    """

    chosen: ScoredModel
    signature: Signature
    session: InferenceSession
    calibration: SpecCalibration
    domain: Domain | None = None
    no_domain: str = ""

    def scores(self, rows: pa.Table) -> tuple[Floats, Floats]:
        """Raw and calibrated scores of the rows: each float64 [n]."""
        raw = raw_scores(self.session, self.signature, rows, batch_rows=BATCH_ROWS)
        return raw, calibrated(self.calibration, raw)

    def certainty(self, use_case: UseCase, rows: pa.Table, scores: Floats) -> pa.Table:
        """The columns of core.inference.certainty of rows and their calibrated scores [n]."""
        position = None if self.domain is None else locate(self.domain, rows)
        shifts = tuple(self.calibration.shifts.values())
        return certainty_columns(scores, shifts, position, use_case.decision_threshold, use_case.certainty)


def run(context: StepContext, *, model_choice: ArtifactRef, calibration: ArtifactRef) -> ArtifactRef:
    """Commit the partition's scores; inputs are the choice, the calibration, the versions, curated data and features.

    Features are loaded for `settings.score_batch_rows` rows at a time. Raises PartitionRejected if the partition's
    data was rejected, PartitionNotReady if its features are missing or of an earlier delivery, and any error of the
    primary.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    choice = store.read_document(model_choice, ModelChoice)
    calibrations = store.read_document(calibration, Calibration).specs
    primary = _load(store, choice.primary, calibrations)
    features_ref = store.current(use_case.name, "publish_features", partition)
    shadows, failed = _load_shadows(store, choice.shadows, calibrations)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        spine = stack.enter_context(open_scoring_spine(use_case, store, partition))
        _check_delivered(use_case, partition, spine)
        _check_features(context, features_ref)
        published = PublishedPartitions(store, {partition: features_ref}, stack)

        def features_of(batch: pa.Table) -> Features:
            return cache(
                lambda service: historical_features(use_case, settings, store, service, batch, partitions=published)
            )

        while True:
            batches = spine.batches(settings.score_batch_rows)
            try:
                files = _written(folder, (_scored(use_case, features_of(batch), primary, shadows) for batch in batches))
                _check_shadows(use_case, files[ALL_SCORES], shadows, spine.rows)
                break
            except ShadowFailed as error:
                failed[error.model_version] = _reason(error.__cause__)
                shadows = [one for one in shadows if one.chosen.model_version != error.model_version]
        for version, reason in failed.items():
            log.error("%s %s: shadow %s is left out: %s", use_case.name, partition, version, reason)
        log.info("%s %s: %d rows; %s", use_case.name, partition, spine.rows, choice.why)
        summary = _summary(context, files.pop(OWN))
        no_domain = {one.chosen.model_version: one.no_domain for one in (primary, *shadows) if one.no_domain}
        return context.commit(
            "score",
            kind="scores",
            files={**files, SUMMARY: summary},
            inputs={
                "model_choice": [model_choice],
                "calibration": [calibration],
                "model": [choice.primary.model],
                "shadows": [one.chosen.model for one in shadows],
                "curated": list(spine.refs),
                "features": [features_ref],
            },
            parameters={
                "feature_service": primary.signature.feature_service,
                "decision_threshold": use_case.decision_threshold,
            },
            metrics={
                **({"failed_shadows": failed} if failed else {}),
                **({"no_domain": no_domain} if no_domain else {}),
            },
            rows=spine.rows,
        )


def _summary(context: StepContext, own: Path) -> pa.Table:
    """The summary of the primary's scores before calibration, and of their certainty."""
    partition, cutoff, file = context.partition, context.use_case.cutoff(context.partition), pq.ParquetFile(own)
    summaries = []
    # One column in memory at a time.
    for name in file.schema_arrow.names:
        column = file.read([name])
        # A column that cannot be filled yet would be one that is always missing, and drift once it is filled.
        if name == "raw_score" or column[name].null_count < len(column):
            summaries.append(summarise(SCORES_SOURCE, column, partition=partition, cutoff=cutoff))
    return pa.concat_tables(summaries)


def _load(store: ArtifactStore, chosen: ScoredModel, calibrations: Mapping[str, SpecCalibration]) -> LoadedVersion:
    signature = store.read_document(chosen.model, Signature)
    session = load_session(store.read(chosen.model, "model.onnx"))
    domain, no_domain = _domain(store, chosen) if chosen.share > 0 else (None, "")
    # The frozen version shares its spec with the champion, whose calibration would hide how old it is.
    calibration = None if chosen.role == "frozen" else calibrations.get(chosen.spec_id)
    return LoadedVersion(chosen, signature, session, calibration or SpecCalibration(), domain, no_domain)


def _domain(store: ArtifactStore, chosen: ScoredModel) -> tuple[Domain | None, str]:
    """The domain of a version, None if it was fitted without one or it cannot be read, and then the reason."""
    if all(entry.path != Domain.FILE for entry in store.manifest(chosen.model).files):
        return None, ""
    try:
        return store.read_document(chosen.model, Domain), ""
    except TerminalError as error:
        log.exception("the domain of %s is not used", chosen.model_version)
        return None, _reason(error)


def _load_shadows(
    store: ArtifactStore, chosen: Sequence[ScoredModel], calibrations: Mapping[str, SpecCalibration]
) -> tuple[list[LoadedVersion], dict[str, str]]:
    """The shadows that can be loaded, and why the others cannot, by version."""
    loaded: list[LoadedVersion] = []
    failed: dict[str, str] = {}
    for one in chosen:
        try:
            loaded.append(_load(store, one, calibrations))
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - no error of a shadow may stop the primary
            failed[one.model_version] = _reason(error)
    return loaded, failed


def _reason(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"


def _check_delivered(use_case: UseCase, partition: date, spine: ScoringSpine) -> None:
    if spine.rejected:
        raise PartitionRejected(
            "NS-PREDICT-003", f"{use_case.name}: the data of partition {partition} was rejected: {spine.rejected}"
        )


def _check_features(context: StepContext, features: ArtifactRef) -> None:
    try:
        context.check_current("publish_features", features)
    except Superseded as error:
        name, partition = context.use_case.name, context.partition
        raise PartitionNotReady(
            "NS-PREDICT-006",
            f"{name} {partition}: {features.uri} has the features of an earlier delivery. The task is retried until "
            f"{name}.materialize has run for the newer one; if that failed, clear it.",
        ) from error


def _scored(
    use_case: UseCase, features: Features, primary: LoadedVersion, shadows: Sequence[LoadedVersion]
) -> dict[str, pa.Table]:
    """The rows of all files for one batch. Raises ShadowFailed for the first shadow that cannot score it."""
    key, extra = use_case.key_columns, [column.name for column in use_case.prediction_extra]
    rows = features(primary.signature.feature_service)
    keys = rows.select(key)
    raw, published = primary.scores(rows)
    versions = np.full(len(raw), primary.chosen.model_version, dtype=object)
    long = [_long(keys, primary, raw, published)]
    own = certainty = primary.certainty(use_case, rows, published)
    for shadow in shadows:
        try:
            own_rows = features(shadow.signature.feature_service)
            if not own_rows.select(key).equals(keys):
                service = shadow.signature.feature_service
                raise FeatureContractError(
                    "NS-PREDICT-004", f"Feature service {service} returned other rows than it was given."
                )
            shadow_raw, shadow_scores = shadow.scores(own_rows)
            own_certainty = shadow.certainty(use_case, own_rows, shadow_scores) if shadow.chosen.share > 0 else None
        except TransientError:
            raise
        except Exception as error:
            raise ShadowFailed(shadow.chosen.model_version) from error
        long.append(_long(keys, shadow, shadow_raw, shadow_scores))
        if own_certainty is None:
            continue
        canary = canary_rows(keys, key, shadow.chosen.share)
        certainty = _chosen(canary, own_certainty, certainty)
        published = np.where(canary, shadow_scores, published)
        versions = np.where(canary, shadow.chosen.model_version, versions)
    columns = {
        use_case.score: published,
        "decision": published >= use_case.decision_threshold,
        "model_version": versions.astype(str),
    }
    names = dict.fromkeys([*key, *primary.signature.numeric, *primary.signature.categorical])
    return {
        SCORES: _beside(_with(rows.select([*key, *extra]), columns), certainty),
        ALL_SCORES: pa.concat_tables(long),
        FEATURES: rows.select(list(names)),
        OWN: _beside(pa.table({"raw_score": raw}), own.select(MONITORED)),
    }


def _long(keys: pa.Table, version: LoadedVersion, raw: Floats, scores: Floats) -> pa.Table:
    """One version's rows of all_scores.parquet."""
    chosen = version.chosen
    constants = {"role": chosen.role, "spec_id": chosen.spec_id, "model_version": chosen.model_version}
    columns = {name: np.full(len(raw), value) for name, value in constants.items()}
    return _with(keys, columns | {"raw_score": raw, "score": scores})


def _chosen(mask: npt.NDArray[np.bool_], where: pa.Table, otherwise: pa.Table) -> pa.Table:
    """Row by row [n] one of two tables with the same columns."""
    chosen = pa.array(mask)
    return pa.table({name: pc.if_else(chosen, where[name], otherwise[name]) for name in otherwise.column_names})


def _beside(left: pa.Table, right: pa.Table) -> pa.Table:
    return pa.table([*left.columns, *right.columns], schema=pa.schema([*left.schema, *right.schema]))


def _with(table: pa.Table, columns: Mapping[str, npt.NDArray[Any]]) -> pa.Table:
    for name, values in columns.items():
        kind = pa.string() if values.dtype.kind in "UO" else None
        table = table.append_column(name, pa.array(values, kind))
    return table


def _check_shadows(use_case: UseCase, scores: Path, shadows: Sequence[LoadedVersion], rows: int) -> None:
    """Raise ShadowFailed for a shadow whose scores are not probabilities, or a canary that would not pass the audit.

    A canary is audited as if all its scores were published, so that it cannot stop the partition.
    """
    for shadow in shadows:
        own = ds.dataset(scores).filter(pc.field("model_version") == shadow.chosen.model_version)
        checks = audit_scores(own, key=use_case.key_columns, score="score", scheduled_rows=rows, policy=use_case.audit)
        needed = checks if shadow.chosen.share > 0 else [one for one in checks if one.name in PROBABILITY_CHECKS]
        wrong = [f"{check.name}: {check.observed}, must be {check.bound}" for check in needed if not check.passed]
        if wrong:
            raise ShadowFailed(shadow.chosen.model_version) from AuditFailed("NS-PREDICT-005", "; ".join(wrong))


def _written(folder: Path, batches: Iterable[Mapping[str, pa.Table]]) -> dict[str, Path]:
    """Parquet files in the folder by name, one row group a batch; only one batch is held at a time."""
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for batch in batches:
            for name, part in batch.items():
                if name not in writers:
                    writer = pq.ParquetWriter(folder / name, part.schema, compression="zstd")
                    writers[name] = stack.enter_context(writer)
                writers[name].write_table(part)
    return {name: folder / name for name in writers}
