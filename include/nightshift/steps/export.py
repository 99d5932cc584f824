"""Turn one candidate into an ONNX graph, quantized where the candidate says so.

Artifact (variant: the candidate): `model.onnx`, `signature.json`, and for a quantized candidate
`full_precision.onnx`, the graph that was quantized.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date

from nightshift.artifact import ArtifactRef
from nightshift.core.candidates import QUANTIZED_FROM, fitted_as
from nightshift.core.estimators import FITTED_MODEL, FittedModel
from nightshift.core.model_package import FULL_PRECISION, MODEL, SIGNATURE
from nightshift.core.onnx_export import OPSETS, export_onnx
from nightshift.core.quantization import quantize_int8
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)


def run(
    use_case: UseCase,
    settings: Settings,  # noqa: ARG001
    store: ArtifactStore,
    partition: date,
    *,
    teachers: Sequence[ArtifactRef],
    students: Sequence[ArtifactRef],
    candidate: str,
) -> ArtifactRef:
    """Commit the candidate's graph. `teachers` and `students` are all artifacts of `fit` and `compress`.

    Raises ConfigurationError if none of them is what the candidate is made from.
    """
    fitted = {store.manifest(ref).variant: ref for ref in (*teachers, *students)}
    source = fitted.get(fitted_as(candidate))
    if source is None:
        raise ConfigurationError(
            f"{use_case.name}: {candidate} is exported from the fitted model {fitted_as(candidate)!r}, but only "
            f"{sorted(fitted)} were fitted for {partition}. Correct `techniques` in the use case's training policy."
        )
    model = FittedModel.from_bytes(store.read(source, FITTED_MODEL))
    graph = export_onnx(model)
    files = {SIGNATURE: model.signature.to_json(), MODEL: graph}
    if candidate in QUANTIZED_FROM:
        files |= {MODEL: quantize_int8(graph), FULL_PRECISION: graph}
    size = len(files[MODEL])
    log.info("%s %s %s: %d bytes of ONNX", use_case.name, partition, candidate, size)
    return store.commit(
        use_case=use_case.name,
        step="export",
        partition=partition,
        variant=candidate,
        kind="onnx_model",
        files=files,
        inputs={"fitted": [source]},
        parameters={"candidate": candidate, "quantized": candidate in QUANTIZED_FROM, "opsets": OPSETS},
        metrics={"bytes": size},
    )
