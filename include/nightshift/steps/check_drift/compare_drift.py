"""Compare one night with what its model was trained on: features, scores, and the outcomes that came in.

Artifact: `drift.json`. The `block_days` of the use case's policy says how many nights, up to this
one, are compared together; usually one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.core.drift import REFERENCE_BINS, REFERENCE_TABLE, Reference, compare, overall_verdict
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.outcomes import Outcomes, delivered_outcomes
from nightshift.settings import Settings
from nightshift.usecase import UseCase, partition_range

log = logging.getLogger(__name__)


def run(
    use_case: UseCase,
    settings: Settings,  # noqa: ARG001 - every step takes the same arguments
    store: ArtifactStore,
    partition: date,
) -> ArtifactRef:
    """Commit `drift.json` for the partition's published predictions and the outcomes delivered with it.

    Raises PartitionNotReady if the partition's predictions have not been published.
    """
    publication = store.current(use_case.name, "publish_predictions", partition)
    (scores,) = store.manifest(publication).inputs["scores"]
    (choice_ref,) = store.manifest(scores).inputs["model_choice"]
    choice = json.loads(store.read(choice_ref, "model_choice.json"))
    model = ArtifactRef.model_validate(choice["model"])
    reference = Reference.from_files(
        {REFERENCE_TABLE: store.read_table(model, REFERENCE_TABLE), REFERENCE_BINS: store.read(model, REFERENCE_BINS)}
    )
    window = partition_range(partition - timedelta(days=use_case.drift.block_days - 1), partition)
    nights = [*_published_scores(use_case, store, window[:-1]), scores]
    outcomes = [delivered_outcomes(use_case, store, day) for day in window if day >= use_case.first_partition]
    compared = _compared(use_case, store, reference, nights, outcomes)
    for name, group in compared["groups"].items():
        log.info("%s %s: %s drift: %s (%s)", use_case.name, partition, name, group["verdict"], group["reason"])
    drift = {
        "use_case": use_case.name,
        "partition": partition.isoformat(),
        "model_version": choice["model_version"],
        "quantile": use_case.drift.quantile,
        **compared,
    }
    return store.commit(
        use_case=use_case.name,
        step="compare_drift",
        partition=partition,
        kind="drift",
        files={"drift.json": json.dumps(drift, indent=1).encode()},
        inputs={"scores": nights, "model": [model], "curated": [ref for found in outcomes for ref in found.refs]},
        metrics={"verdict": drift["verdict"], **{name: g["verdict"] for name, g in compared["groups"].items()}},
        rows=scores.rows,
    )


def _published_scores(use_case: UseCase, store: ArtifactStore, window: Sequence[date]) -> list[ArtifactRef]:
    decisions = store.decisions(use_case.name, "publish_predictions", window).values()
    published = [decision.ref for decision in decisions if decision and decision.ref and decision.status == "published"]
    return [store.manifest(ref).inputs["scores"][0] for ref in published]


def _compared(
    use_case: UseCase,
    store: ArtifactStore,
    reference: Reference,
    nights: Sequence[ArtifactRef],
    outcomes: Sequence[Outcomes],
) -> dict[str, Any]:
    """The verdicts, the night's counts per column and bin, and the rate of the matured labels."""
    features = pa.concat_tables([store.read_table(ref, "features.parquet") for ref in nights])
    scores = pa.concat_tables([store.read_table(ref, "scores.parquet") for ref in nights])
    labels = pa.concat_tables([found.matured(use_case) for found in outcomes])
    counts = (
        reference.count(features)
        | reference.count(scores.select([use_case.score]))
        | reference.count(labels.select([use_case.label]))
    )
    names = [name for name in reference.bins if name not in (use_case.score, use_case.label)]
    groups = {
        kind: compare(reference, counts, columns, use_case.drift, use_case.training.seed)
        for kind, columns in (("data", names), ("prediction", [use_case.score]), ("label", [use_case.label]))
    }
    day = outcomes[-1].matured_day(use_case)
    known = labels[use_case.label].to_numpy()
    return {
        "verdict": overall_verdict(list(groups.values())),
        "groups": {kind: group.to_json() for kind, group in groups.items()},
        "counts": {name: counted.tolist() for name, counted in counts.items()},
        "score": use_case.score,
        "label": use_case.label,
        "label_day": day.isoformat() if day else None,
        "label_rate": float(known.mean()) if len(known) else None,
    }
