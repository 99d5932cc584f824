"""Fit a spec on every matured row and export it; measure the spec by a second fit on older rows only.

Artifact (variant: the spec id): `model.onnx` (what is shipped, fitted on all rows), `signature.json`, `spec.json`,
`card.json`, `parity.json` (the graph against the fitted model; a difference is a failing gate
of `verify`), `holdout.parquet` (prediction key, partition, label, and the score of a version fitted without the
newest `holdout_days` partitions, which are those rows; that version is not shipped), `domain.json` (where the rows lie
that it was fitted on, see core.inference.domain), and for a quantized version `full_precision.onnx`. The fitted model
itself is not kept.
"""

from __future__ import annotations

import logging
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.evaluation import evaluate
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.features.training_rows import newest_rows
from nightshift.core.gates.version_parity import check_version_parity
from nightshift.core.inference.onnx_model import load_session, score
from nightshift.core.models.domain import fit_domain
from nightshift.core.models.training_split import split_rows
from nightshift.core.versions.package import FULL_PRECISION, HOLDOUT, MODEL, describe
from nightshift.core.versions.version import export_version, fit_spec, signature_of_spec, within_window
from nightshift.declare.models import ModelSpec
from nightshift.services.training_rows import load_training_set
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, training_set: ArtifactRef, spec: ArtifactRef) -> ArtifactRef:
    """Commit the version. The same training set and spec give the same bytes.

    Raises ConfigurationError for a spec with an unknown estimator, technique or feature, DataContractError for rows
    that cannot be trained or evaluated on.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    rows = newest_rows(load_training_set(store, use_case, training_set), use_case.key_columns, partition)
    declared, role = store.read_document(spec, ModelSpec), store.manifest(spec).parameters["role"]
    signature, label, threads = signature_of_spec(use_case, declared), use_case.label, settings.threads
    split = split_rows(rows, label, use_case.training)
    last: date = pc.max(split.train[PARTITION]).as_py()
    older = fit_spec(declared, split.train, label, signature, as_of=last + timedelta(days=1), threads=threads)
    scores = score(load_session(export_version(older).graph), signature, split.holdout)
    metrics = evaluate(split.holdout_labels, scores)

    version = export_version(fit_spec(declared, rows, label, signature, as_of=partition, threads=threads))
    parity = check_version_parity(use_case, version, split.holdout)
    domain = fit_domain(within_window(rows, declared, partition), signature, use_case.certainty)
    card = describe(use_case, signature, split, metrics, role=role, spec=declared)
    holdout = split.holdout.select([*use_case.key_columns, PARTITION, label])
    files: dict[str, bytes | pa.Table] = {
        MODEL: version.graph,
        **signature.to_files(),
        **card.to_files(),
        ModelSpec.FILE: store.read(spec, ModelSpec.FILE),
        **parity.to_files(),
        **domain.to_files(),
        HOLDOUT: holdout.append_column(signature.score, pa.array(scores, pa.float64())),
    }
    if version.full_precision is not None:
        files[FULL_PRECISION] = version.full_precision
    log.info("%s %s %s, fitted on %d rows: %s", use_case.name, partition, declared.spec_id, rows.num_rows, metrics)
    return context.commit(
        "fit",
        variant=declared.spec_id,
        kind="version",
        files=files,
        inputs={"training_set": [training_set], "spec": [spec]},
        parameters={"role": role, "feature_service": signature.feature_service},
        metrics=dict(metrics),
        rows=rows.num_rows,
    )
