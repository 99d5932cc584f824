"""What moved the score of one published prediction, feature by feature."""

from __future__ import annotations

from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.explanations import Effect, effects
from nightshift.declare.use_case import UseCase
from nightshift.documents.predict import ModelChoice
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.publications import Prediction
from nightshift.services.drift_inputs import SERVED


def effects_of(use_case: UseCase, store: ArtifactStore, prediction: Prediction, *, seed: int) -> list[Effect]:
    """See core.models.explanations.effects; the other rows are those of the same publication, before calibration.

    Raises ConfigurationError if a canary scored the row with features that were not kept, and ArtifactCorrupt if what
    is read does not have the recorded hash.
    """
    scores = prediction.publication.scores
    (choice,) = store.manifest(scores).inputs["model_choice"]
    versions = {one.model_version: one for one in store.read_document(choice, ModelChoice).scored}
    model = versions[prediction.model_version].model
    signature = store.read_document(model, Signature)
    rows = store.read_table(scores, SERVED)
    if missing := sorted({*signature.numeric, *signature.categorical} - {*rows.column_names}):
        raise ConfigurationError(
            "NS-STORE-022",
            f"{use_case.name}: {prediction.model_version} scored the row as a canary, and {', '.join(missing[:5])} "
            "are features of it alone; the primary's are kept. Take a row that the primary scored.",
        )
    same = (pc.equal(rows[name], pa.scalar(prediction.columns[name], rows[name].type)) for name in use_case.key_columns)
    position = pc.index(reduce(pc.and_, same), pa.scalar(True)).as_py()
    return effects(store.read(model, "model.onnx"), signature, rows, position, seed=seed)
