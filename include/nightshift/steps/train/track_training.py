"""Log the versions that a training made in MLflow. No step depends on it."""

from __future__ import annotations

from nightshift.artifact import ArtifactRef
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.versions.package import MODEL
from nightshift.declare.models import ModelSpec
from nightshift.documents.train import ModelCard, Registration
from nightshift.io.tracking import TrainingRecord, log_training
from nightshift.io.warehouse.schema import hold_lock
from nightshift.steps.context import StepContext


def run(context: StepContext, *, registered: ArtifactRef) -> ArtifactRef:
    """Log and commit the MLflow run of each version, as metrics; none where no tracking is configured.

    Raises TrackingUnavailable if MLflow does not answer, ConfigurationError if it rejects the call,
    WarehouseUnavailable while another process logs versions of the use case. The registration is not affected.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    runs = {}
    for entry in store.read_document(registered, Registration).versions:
        manifest = store.manifest(entry.model)
        record = TrainingRecord(
            partition=partition,
            model_version=entry.model_version,
            model_ref=entry.model,
            action=entry.action,
            parameters={
                "spec_id": entry.spec_id,
                "role": entry.role,
                "training_set": manifest.inputs["training_set"][0].uri,
                "train_rows": manifest.ref.rows,
                "seed": store.read_document(entry.model, ModelSpec).seed,
            },
            metrics=manifest.metrics,
            model=store.read(entry.model, MODEL),
            files={name: store.read(entry.model, name) for name in (Signature.FILE, ModelCard.FILE, ModelSpec.FILE)},
        )
        # MLflow takes a second run of the same model, and Airflow retries a task that it lost, but that still runs.
        with hold_lock(settings, use_case.name, "track_training"):
            runs[entry.spec_id] = log_training(settings, use_case, record)
    return context.commit(
        "track_training",
        kind="tracked_training",
        files={},
        inputs={"registered": [registered]},
        metrics=runs,
    )
