"""The files of a version, for scoring, monitoring and explaining it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.training_split import PARTITION, TrainingSplit
from nightshift.core.monitoring.drift import build_reference
from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Role
from nightshift.documents.train import HoldoutMetrics, ModelCard, Span

MODEL = "model.onnx"
FULL_PRECISION = "full_precision.onnx"
"""Only for a quantized graph: the graph it was made from."""
HOLDOUT = "holdout.parquet"


def package(
    use_case: UseCase,
    model: bytes,
    signature: Signature,
    split: TrainingSplit,
    holdout_score: npt.NDArray[np.float64],
    card: ModelCard,
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
    return {MODEL: model, **signature.to_files(), **card.to_files(), **reference.to_files()}


def describe(
    use_case: UseCase,
    signature: Signature,
    split: TrainingSplit,
    metrics: HoldoutMetrics,
    *,
    role: Role,
    spec: ModelSpec,
) -> ModelCard:
    """The model card of a version of `spec`."""
    features = ModelCard.Features(
        service=signature.feature_service, numeric=signature.numeric, categorical=signature.categorical
    )
    return ModelCard(
        use_case=use_case.name,
        title=use_case.title,
        owner=use_case.owner,
        answers=f"P({split.label} = 1), in the column {signature.score}",
        features=features,
        fitted_on=_span(pa.concat_tables([split.train, split.holdout])),
        measured_on=_span(split.holdout),
        holdout_metrics=metrics,
        role=role,
        spec=spec,
        limits="It is fitted on all rows; the metrics are of the same spec fitted without the rows it is measured "
        "on. Rows whose features lie beyond what it saw in training are scored all the same.",
    )


def _span(part: pa.Table) -> Span:
    bounds = pc.min_max(part[PARTITION]).as_py()
    return Span(rows=part.num_rows, first_partition=bounds["min"], last_partition=bounds["max"])
