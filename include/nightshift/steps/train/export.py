"""Turn one candidate into an ONNX graph.

Artifact (variant: the candidate): `model.onnx`, `signature.json`, and for a quantized candidate
`full_precision.onnx`, the graph of the model that was quantized; or, of kind `not_applicable`,
`not_applicable.json`, passed on from `compress`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date

from nightshift.artifact import ArtifactRef
from nightshift.core.estimators import FITTED_MODEL, FittedModel
from nightshift.core.model_package import FULL_PRECISION, MODEL, SIGNATURE
from nightshift.core.onnx_export import OPSETS, export_onnx
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
    fitted: Sequence[ArtifactRef],
    distilled: Sequence[ArtifactRef],
    compressed: Sequence[ArtifactRef],
    candidate: str,
) -> ArtifactRef:
    """Commit the candidate's graph, or that there is none and why.

    `fitted`, `distilled` and `compressed` are all artifacts of `fit`, `distil` and `compress`; one of them has
    the candidate's name. Raises ConfigurationError if none has.
    """
    available = {store.manifest(ref).variant: ref for ref in (*fitted, *distilled, *compressed)}
    source = available.get(candidate)
    if source is None:
        raise ConfigurationError(
            f"{use_case.name}: {candidate} was not made for {partition}, only {sorted(available)}. "
            "Correct `estimators` and `techniques` in the use case's training policy, then run the training again."
        )
    if source.kind == "not_applicable":
        return store.commit(
            use_case=use_case.name,
            step="export",
            partition=partition,
            variant=candidate,
            kind=source.kind,
            files={name: store.read(source, name) for name in ["not_applicable.json"]},
            inputs={"fitted": [source]},
            parameters={"candidate": candidate},
        )
    own_graph = store.read(source, MODEL) if MODEL in {f.path for f in store.manifest(source).files} else None
    model = FittedModel.from_bytes(store.read(source, FITTED_MODEL), own_graph)
    graph = export_onnx(model)
    files = {SIGNATURE: model.signature.to_json(), MODEL: model.graph or graph}
    if model.graph is not None:
        files[FULL_PRECISION] = graph
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
        parameters={"candidate": candidate, "quantized": model.graph is not None, "opsets": OPSETS},
        metrics={"bytes": size},
    )
