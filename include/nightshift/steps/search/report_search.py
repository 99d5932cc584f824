"""Report a search on one page, and list its candidate specs for a backtest.

Artifact: `candidates.json` (documents.Candidates), `search.html`, `search.csv`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nightshift.artifact import ArtifactRef
from nightshift.core.gates.registry import failures
from nightshift.core.gates.risk import demands
from nightshift.declare.use_case import UseCase
from nightshift.documents.search import Candidates, CandidateSpec, Comparison, StudyResult
from nightshift.documents.train import Verification
from nightshift.io.artifact_store import ArtifactStore
from nightshift.reports.search import render
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(
    context: StepContext, *, studied: ArtifactRef, selected: Sequence[ArtifactRef], verified: Sequence[ArtifactRef]
) -> ArtifactRef:
    """Commit the page and the candidates. `selected`: specs of `select_candidates`; `verified`: their verifications."""
    use_case, store, partition = context.use_case, context.store, context.partition
    manifests = [store.manifest(ref) for ref in selected]
    compared = manifests[0].inputs["comparison"][0]
    comparison = store.read_document(compared, Comparison)
    failed = {store.manifest(ref).variant: _failed(use_case, store, ref) for ref in verified}
    specs = {one.spec.spec_id: one.spec for one in comparison.specs}
    candidates = Candidates(
        partition=partition,
        specs=tuple(
            CandidateSpec(
                spec=specs[one.variant],
                chosen=one.variant == comparison.chosen,
                failed=failed.get(one.variant, ("verify",)),
            )
            for one in manifests
        ),
    )
    study = store.read_document(studied, StudyResult)
    log.info("%s %s: chosen is %s", use_case.name, partition, comparison.chosen)
    return context.commit(
        "report_search",
        kind="search",
        files={
            **candidates.to_files(),
            **render(comparison, candidates, study, use_case.compression, title=use_case.title),
        },
        inputs={"study": [studied], "comparison": [compared], "selected": list(selected), "verified": list(verified)},
        rows=len(candidates.specs),
    )


def _failed(use_case: UseCase, store: ArtifactStore, verified: ArtifactRef) -> tuple[str, ...]:
    """Mandatory gates that failed, as `<gate>: <reason>`."""
    results = store.read_document(verified, Verification).gates
    return tuple(map(str, failures(results, demands(use_case.risk).mandatory)))
