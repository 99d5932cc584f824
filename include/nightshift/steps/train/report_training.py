"""Render a model card of each version that a training made. No step depends on it.

Artifact: `card.html` for the first version registered or rejected, `card-<spec id>.html` for the others.
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.features.training_rows import newest_rows
from nightshift.core.gates.risk import demands
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.explanations import Explanation, explain
from nightshift.core.versions.package import HOLDOUT, MODEL
from nightshift.declare.use_case import UseCase
from nightshift.deployment import GateResult
from nightshift.documents.train import ModelCard, Registration, TrainingSet, Verification
from nightshift.io.artifact_store import ArtifactStore
from nightshift.reports import model_card
from nightshift.services.training_rows import load_rows
from nightshift.steps.context import StepContext


def run(context: StepContext, *, registered: ArtifactRef) -> ArtifactRef:
    """Commit the model cards of the versions in `registered`."""
    use_case, store = context.use_case, context.store
    entries = store.read_document(registered, Registration).versions
    verified = store.manifest(registered).inputs["verified"]
    names = {entry.spec_id: f"card-{entry.spec_id}.html" for entry in entries}
    names[entries[0].spec_id] = "card.html"
    files = {}
    for entry, verification in zip(entries, verified, strict=True):
        (training_set,) = store.manifest(verification).inputs["training_set"]
        rows_used = store.read_document(training_set, TrainingSet)
        record = store.read_document(verification, Verification)
        measured = store.manifest(verification).metrics["gates"]
        records = model_card.Records(
            entry=entry,
            version=store.manifest(entry.model),
            training_set=rows_used,
            card=store.read_document(entry.model, ModelCard),
            verification=record,
            gates=[GateResult.model_validate(one) for one in measured],
            demands=demands(use_case.risk),
            explanation=None if record.unusable else _explain(use_case, store, entry.model, rows_used),
            others={spec_id: name for spec_id, name in names.items() if spec_id != entry.spec_id},
        )
        files[names[entry.spec_id]] = model_card.render(use_case, records)
    return context.commit(
        "report_training",
        kind="training_report",
        files=files,
        inputs={"registered": [registered]},
    )


def _explain(use_case: UseCase, store: ArtifactStore, version: ArtifactRef, training_set: TrainingSet) -> Explanation:
    """Feature contributions to the version's scores of its holdout rows."""
    days = store.read_table(version, HOLDOUT)[PARTITION]
    # Each part is at least one partition of deliveries, and a label comes no earlier than its partition.
    newest = training_set.parts[-(len(days.unique()) + 2) :]
    rows = newest_rows(load_rows(store, use_case, newest), use_case.key_columns, training_set.partition)
    rows = rows.filter(pc.is_in(rows[PARTITION], value_set=days.unique()))
    labels = np.asarray(rows[use_case.label].to_numpy(), dtype=np.int64)
    signature = store.read_document(version, Signature)
    return explain(store.read(version, MODEL), signature, rows, labels, seed=use_case.training.seed)
