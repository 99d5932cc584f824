"""Inputs and scores of a model: the same code in training, verification and production.

A model is an ONNX graph and a signature. The graph takes `numeric` (float32 [n, k]) and, where
there are categorical features, `categorical` (string [n, m]), and returns `probability`
(float32 [n] or [n, 1]): P(label = 1). Scoring needs only onnxruntime.

Models are also *fitted* on what `numeric_matrix` and `categorical_matrix` return, so that a
value at a tree's threshold falls on the same side in training and in production.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import Document
from nightshift.errors import FeatureContractError

NUMERIC_INPUT = "numeric"
CATEGORICAL_INPUT = "categorical"
OUTPUT = "probability"
Feed = dict[str, npt.NDArray[Any]]
"""A graph's inputs by name."""
ABSENT_CATEGORY = ""
"""Replaces a null category, because ONNX strings cannot be null."""


class Signature(Document):
    """A model's input and output schema: feature columns in graph order, the name of their feature service,
    and the name of the score column."""

    FILE: ClassVar[str] = "signature.json"

    numeric: tuple[str, ...]
    categorical: tuple[str, ...] = ()
    feature_service: str
    score: str


def numeric_matrix(table: pa.Table, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """The named columns as float32 [n, k]. Nulls and values that float32 cannot hold become NaN (missing).

    Raises FeatureContractError if a column is missing or not a number.
    """
    _require(table, names)
    matrix = np.empty((table.num_rows, len(names)), dtype=np.float32)
    for position, name in enumerate(names):
        column = table[name]
        if not _is_number(column.type):
            raise FeatureContractError(
                "NS-MODEL-007",
                f"Feature {name!r} has the type {column.type}, which is not numeric; the model needs float64. "
                "Correct its feature table's SQL, or declare it categorical.",
            )
        with np.errstate(over="ignore"):
            matrix[:, position] = pc.cast(column, pa.float64(), safe=False).to_numpy()
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix


def categorical_matrix(table: pa.Table, names: tuple[str, ...]) -> npt.NDArray[np.object_]:
    """The named columns as Python strings, object [n, m]; null becomes "".

    Raises FeatureContractError if a column is missing.
    """
    _require(table, names)
    matrix = np.empty((table.num_rows, len(names)), dtype=object)
    for position, name in enumerate(names):
        text = pc.fill_null(pc.cast(table[name], pa.string()), ABSENT_CATEGORY)
        matrix[:, position] = text.to_numpy(zero_copy_only=False)
    return matrix


def load_session(model: bytes, threads: int = 1) -> ort.InferenceSession:
    """An onnxruntime session on the CPU over a serialised graph, using at most `threads` threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def feed_of(table: pa.Table, signature: Signature) -> Feed:
    """The graph's inputs by name. The table needs the signature's columns and may have others.

    Raises FeatureContractError if one is missing or a numeric one is not numeric.
    """
    feed: Feed = {NUMERIC_INPUT: numeric_matrix(table, signature.numeric)}
    if signature.categorical:
        feed[CATEGORICAL_INPUT] = categorical_matrix(table, signature.categorical)
    return feed


def score(
    session: ort.InferenceSession, signature: Signature, table: pa.Table, *, batch_rows: int | None = None
) -> npt.NDArray[np.float64]:
    """P(label = 1) for each row of the table, in its order: float64 [n]; scored in batches of `batch_rows` (None: all).

    Raises FeatureContractError as `feed_of` does.
    """
    return score_in_batches(session, feed_of(table, signature), batch_rows or max(table.num_rows, 1))


def score_in_batches(session: ort.InferenceSession, feed: Feed, rows: int) -> npt.NDArray[np.float64]:
    """The graph's scores, computed with `score_feed` for at most `rows` rows at a time: float64 [n]."""
    starts = range(0, max(len(feed[NUMERIC_INPUT]), 1), rows)
    return np.concatenate(
        [score_feed(session, {name: values[start : start + rows] for name, values in feed.items()}) for start in starts]
    )


def score_feed(session: ort.InferenceSession, feed: Feed) -> npt.NDArray[np.float64]:
    """The graph's scores for its inputs by name (see `feed_of`): float64 [n]."""
    if len(feed[NUMERIC_INPUT]) == 0:
        return np.empty(0, dtype=np.float64)
    (scores,) = session.run([OUTPUT], feed)
    return np.asarray(scores, dtype=np.float64).reshape(-1)


def _is_number(dtype: pa.DataType) -> bool:
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    return any(is_kind(dtype) for is_kind in kinds)


def _require(table: pa.Table, names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise FeatureContractError(
            "NS-MODEL-008",
            f"The table lacks {len(missing)} feature columns, among them {missing[:5]}; it has "
            f"{table.column_names[:5]} and more. Read the features through the service named in the model's signature.",
        )
