"""The names of the files of a version, and its card."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.training_split import PARTITION, TrainingSplit
from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Role
from nightshift.documents.train import HoldoutMetrics, ModelCard, Span

MODEL = "model.onnx"
FULL_PRECISION = "full_precision.onnx"
"""Only for a quantized graph: the graph it was made from."""
HOLDOUT = "holdout.parquet"


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
