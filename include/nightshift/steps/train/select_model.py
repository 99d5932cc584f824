"""Choose among the verified candidates: the cheapest within the use case's compression budget that no gate refused.

Nothing but its inputs decides, so that the choice can be made again. What is in service is asked by
`register`, afterwards.

Artifact: a model artifact: `model.onnx`, `signature.json`, `card.json`, `reference.parquet`,
`reference.json`; or, where no candidate may be chosen, `refused.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from nightshift.artifact import ArtifactRef, Decision, canonical_json
from nightshift.core.candidates import estimators
from nightshift.core.model_package import MODEL, NO_MODEL, REFUSED, SIGNATURE, describe, package
from nightshift.core.model_selection import select_model
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.core.training_split import TRAINING_SET, split_training_set
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.verified_candidates import VerifiedCandidate, read_verified
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)


def run(
    use_case: UseCase,
    settings: Settings,  # noqa: ARG001
    store: ArtifactStore,
    partition: date,
    *,
    training_set: ArtifactRef,
    verified: Sequence[ArtifactRef],
) -> ArtifactRef:
    """Commit the winner as a model artifact, or what refused each candidate (kind "no_model").

    `verified` are all artifacts of `verify`. The manifest's metrics hold the winner's own, those of all
    candidates (`candidates`), and why each won or not (`selection`).
    """
    candidates = read_verified(store, verified)
    records = [candidate.record(use_case.risk) for candidate in candidates.values()]
    selection = select_model(records, estimators(use_case), use_case.compression)
    # A graph that cannot even be asked has no numbers, but gates that say so: it was refused.
    broken = {r.name: f"refused by {'; '.join(r.refused)}" for r in records if r.not_applicable and r.refused}
    reasons = {**selection.reasons, **broken}
    log.info("%s %s: %s won; %s", use_case.name, partition, selection.winner, reasons)
    metrics = {
        "candidates": {name: candidate.numbers for name, candidate in candidates.items()},
        "selection": {"winner": selection.winner, "teacher": selection.teacher, "reasons": reasons},
    }
    inputs = {"training_set": [training_set], "verified": list(verified)}
    if selection.winner is None:
        return _commit_refused(use_case, store, partition, candidates, inputs, metrics)
    winner = candidates[selection.winner]
    split = split_training_set(store.read_table(training_set, TRAINING_SET), use_case.label)
    graph = store.read(winner.exported, MODEL)
    signature = Signature.from_json(store.read(winner.exported, SIGNATURE))
    scores = score(load_session(graph, threads=1), signature, split.holdout)
    card = describe(
        use_case,
        signature,
        split,
        winner.verification["holdout"],
        role="challenger",
        candidate=winner.name,
        teacher=selection.teacher,
        candidates={name: _judged(candidate) for name, candidate in candidates.items()},
    )
    return store.commit(
        use_case=use_case.name,
        step="select_model",
        partition=partition,
        kind="model",
        files=package(use_case, graph, signature, split, scores, card),
        inputs={**inputs, "exported": [winner.exported]},
        parameters={
            "winner": winner.name,
            "teacher": selection.teacher,
            "feature_service": signature.feature_service,
        },
        metrics={**winner.metrics, **metrics},
        rows=split.train.num_rows,
    )


def _judged(candidate: VerifiedCandidate) -> dict[str, Any]:
    """What the card says of a candidate. Nothing measured by a clock: the card is part of the model's identity."""
    if candidate.not_applicable:
        return {"not_applicable": candidate.not_applicable}
    names = ("holdout", "bytes", "disagreement", "worst_slice")
    return {name: candidate.verification.get(name) for name in names}


def _commit_refused(
    use_case: UseCase,
    store: ArtifactStore,
    partition: date,
    candidates: Mapping[str, VerifiedCandidate],
    inputs: Mapping[str, Sequence[ArtifactRef]],
    metrics: Mapping[str, Any],
) -> ArtifactRef:
    """Why there is no model. What a clock measured is in the reasons among the metrics, not in the file."""
    refused = {
        name: {
            "not_applicable": candidate.not_applicable,
            "refused_by": [result.gate for result in candidate.refusals(use_case.risk)],
        }
        for name, candidate in candidates.items()
    }
    ref = store.commit(
        use_case=use_case.name,
        step="select_model",
        partition=partition,
        kind=NO_MODEL,
        files={REFUSED: canonical_json({"candidates": refused})},
        inputs=inputs,
        metrics=metrics,
        current=False,
    )
    reasons = metrics["selection"]["reasons"]
    reason = f"no candidate may be chosen: {'; '.join(f'{name}: {why}' for name, why in reasons.items())}"
    store.decide(use_case.name, "select_model", partition, Decision(status="rejected", ref=ref, reason=reason))
    return ref
