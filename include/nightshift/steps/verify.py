"""Check row by row that an exported candidate answers like the fitted one, then measure it.

Artifact (variant: the candidate): `verification.json` with parity, holdout metrics and bytes. Speeds
differ from run to run, so they are in the manifest's metrics and no part of the artifact's identity:
the first verification of the same graph on the same rows is the one that stays on record.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date
from functools import partial

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.estimators import FITTED_MODEL, FittedModel
from nightshift.core.evaluation import evaluate
from nightshift.core.measurement import measure
from nightshift.core.model_package import FULL_PRECISION, MODEL, SIGNATURE
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.core.parity import Answer, Probes, check_parity, in_batches, probe_rows
from nightshift.core.quantization import TOLERANCE
from nightshift.core.training_split import TRAINING_SET, split_training_set
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

VERIFICATION = "verification.json"
SMALL_BATCH_ROWS = 512


def run(
    use_case: UseCase,
    settings: Settings,  # noqa: ARG001
    store: ArtifactStore,
    partition: date,
    *,
    training_set: ArtifactRef,
    exports: Sequence[ArtifactRef],
    candidate: str,
) -> ArtifactRef:
    """Commit the verification of one candidate. `exports` are all artifacts of `export`.

    Raises ParityError naming rows and both answers where the graph differs from the fitted model by
    more than the use case's `parity_tolerance`; a quantized graph is held to quantization.TOLERANCE
    against the graph it was made from, and that one to the fitted model.
    """
    exported = next((ref for ref in exports if store.manifest(ref).variant == candidate), None)
    if exported is None:
        raise ConfigurationError(f"{use_case.name}: {candidate} was not exported for {partition}; run `export` for it.")
    made_from = store.manifest(exported)
    fitted = FittedModel.from_bytes(store.read(made_from.inputs["fitted"][0], FITTED_MODEL))
    signature = Signature.from_json(store.read(exported, SIGNATURE))
    split = split_training_set(store.read_table(training_set, TRAINING_SET), use_case.label)
    model = store.read(exported, MODEL)
    answers = _answers(model, signature)
    full_precision = None
    if made_from.parameters["quantized"]:
        full_precision = _answers(store.read(exported, FULL_PRECISION), signature)
    parity = _check_parity(use_case, candidate, probe_rows(split.holdout, signature), fitted, answers, full_precision)

    metrics = evaluate(split.holdout_labels, answers(split.holdout))
    verification = {"candidate": candidate, "parity": parity, "holdout": metrics, "bytes": len(model)}
    costs = measure(model, signature, split.holdout)
    log.info("%s %s %s: %s %s", use_case.name, partition, candidate, verification, costs)
    return store.commit(
        use_case=use_case.name,
        step="verify",
        partition=partition,
        variant=candidate,
        kind="verification",
        files={VERIFICATION: canonical_json(verification)},
        inputs={"training_set": [training_set], "exported": [exported]},
        parameters={"candidate": candidate, "parity_tolerance": use_case.training.parity_tolerance},
        metrics={**metrics, "bytes": len(model), **costs},
        rows=split.holdout.num_rows,
    )


def _answers(model: bytes, signature: Signature) -> Answer:
    # One thread: how sums are split over threads shows in the last digits, and they are recorded.
    return partial(score, load_session(model, threads=1), signature)


def _check_parity(
    use_case: UseCase,
    candidate: str,
    probes: Probes,
    fitted: FittedModel,
    exported: Answer,
    full_precision: Answer | None,
) -> dict[str, float]:
    """Largest difference of each comparison made, beside the bound it was held to."""
    tolerance = use_case.training.parity_tolerance
    own_bound = TOLERANCE if full_precision else tolerance
    small_batches = partial(in_batches, exported, rows=SMALL_BATCH_ROWS)
    comparisons: list[tuple[str, Answer, Answer, float]] = [
        ("fitted", fitted.probability, full_precision or exported, tolerance),
        *([("full precision", full_precision, exported, TOLERANCE)] if full_precision else []),
        ("itself in small batches", exported, small_batches, own_bound),
    ]
    key = tuple(column.name for column in use_case.prediction_key)
    found: dict[str, float] = {"probes": len(probes.strangeness)}
    for against, expected, answered, bound in comparisons:
        what = f"{use_case.name} {candidate} against {against}"
        found[f"{against}, largest difference"] = check_parity(expected, answered, probes, bound, what=what, key=key)
        found[f"{against}, bound"] = bound
    return found
