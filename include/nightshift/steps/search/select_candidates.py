"""Compare the raced specs over all origins and select the contenders' Pareto front for full verification.

Artifacts: `comparison.json` (documents.Comparison); and, one for each spec of the front, the chosen one first, of kind
`model_spec` (variant: the spec id), `spec.json`. The latter are returned.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nightshift.artifact import ArtifactRef
from nightshift.core.search.selection import compare
from nightshift.documents.search import Race
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, raced: Sequence[ArtifactRef]) -> list[ArtifactRef]:
    """Commit the comparison and the specs to verify. Raises DataContractError if no spec was raced at all origins."""
    use_case, store, partition = context.use_case, context.store, context.partition
    races = [store.read_document(ref, Race) for ref in raced]
    comparison = compare(races, use_case.compression, use_case.promotion)
    compared = context.commit(
        "select_candidates",
        kind="comparison",
        files=comparison.to_files(),
        inputs={"raced": list(raced)},
        rows=len(comparison.specs),
    )
    front = [one.spec for one in comparison.specs if one.on_front]
    front.sort(key=lambda spec: spec.spec_id != comparison.chosen)
    log.info("%s %s: to verify are %s", use_case.name, partition, [spec.spec_id for spec in front])
    return [
        context.commit(
            "select_candidates",
            variant=spec.spec_id,
            kind="model_spec",
            files=spec.to_files(),
            inputs={"comparison": [compared]},
            parameters={"role": "champion" if spec.spec_id == comparison.baseline else "challenger"},
        )
        for spec in front
    ]
