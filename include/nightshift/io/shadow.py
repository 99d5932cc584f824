"""Both answers of a night on which a model was asked beside the one that serves, as the scores' artifact holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.io.artifact_store import ArtifactStore

SHADOW = "shadow.parquet"


def has_shadow(store: ArtifactStore, scores: ArtifactRef) -> bool:
    """Whether a model was asked beside the one that serves, and answered."""
    return SHADOW in {entry.path for entry in store.manifest(scores).files}


def shadow_rows(store: ArtifactStore, scores: ArtifactRef, choice: Mapping[str, Any]) -> pa.Table | None:
    """The rows of shadow_predictions for a night's scores and model_choice.json; None if there was one model only."""
    if not has_shadow(store, scores):
        return None
    rows = store.read_table(scores, SHADOW)
    constants = {
        "stage": choice["beside"]["stage"],
        "serving_version": choice["model_version"],
        "beside_version": choice["beside"]["model_version"],
    }
    for name, value in constants.items():
        rows = rows.append_column(name, pa.array([value] * rows.num_rows, pa.string()))
    return rows
