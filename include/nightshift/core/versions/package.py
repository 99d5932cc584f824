"""The files of a version, for scoring, monitoring and explaining it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.training_split import PARTITION, TrainingSplit
from nightshift.core.monitoring.drift import build_reference
from nightshift.declare.use_case import UseCase

MODEL = "model.onnx"
CARD = "card.json"
FULL_PRECISION = "full_precision.onnx"
"""Only for a quantized graph: the graph it was made from."""
PARITY, HOLDOUT = "parity.json", "holdout.parquet"


def package(
    use_case: UseCase,
    model: bytes,
    signature: Signature,
    split: TrainingSplit,
    holdout_score: npt.NDArray[np.float64],
    card: Mapping[str, Any],
) -> dict[str, bytes | pa.Table]:
    """The files of a version by name: graph, signature, drift reference and card.

    The reference holds the features and labels of all rows, but the scores of the holdout rows only:
    scores of training rows are over-confident.
    """
    scored = [
        split.train.append_column(signature.score, pa.nulls(split.train.num_rows, pa.float64())),
        split.holdout.append_column(signature.score, pa.array(holdout_score, pa.float64())),
    ]
    reference = build_reference(
        pa.concat_tables(scored),
        numeric=[*signature.numeric, signature.score, split.label],
        categorical=list(signature.categorical),
        day_column=PARTITION,
        bins=use_case.drift.bins,
        sparse=(signature.score,),
    )
    body = json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False, default=str).encode()
    return {MODEL: model, **signature.to_files(), CARD: body, **reference.to_files()}


def describe(
    use_case: UseCase, signature: Signature, split: TrainingSplit, metrics: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """The contents of a model card: purpose, training data, holdout metrics and limits of the model."""
    return {
        "use_case": use_case.name,
        "title": use_case.title,
        "owner": use_case.owner,
        "answers": f"P({split.label} = 1), in the column {signature.score}",
        "features": {"service": signature.feature_service, "numeric": signature.numeric}
        | {"categorical": signature.categorical},
        "fitted_on": _span(pa.concat_tables([split.train, split.holdout])),
        "measured_on": _span(split.holdout),
        "holdout_metrics": dict(metrics),
        "limits": "It is fitted on all rows; the metrics are of the same spec fitted without the rows it is measured "
        "on. Rows whose features lie beyond what it saw in training are scored all the same.",
        **more,
    }


def _span(part: pa.Table) -> dict[str, Any]:
    bounds = pc.min_max(part[PARTITION]).as_py()
    return {"rows": part.num_rows, "first_partition": str(bounds["min"]), "last_partition": str(bounds["max"])}
