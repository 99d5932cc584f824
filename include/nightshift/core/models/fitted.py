"""A fitted model, and the hyperparameters that it is fitted with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightshift.core.arrays import Floats
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.preprocessing import feature_frame
from nightshift.declare.models import Hyperparameters, number
from nightshift.errors import ConfigurationError

LARGEST_SHARE_OF_ROWS = {
    "min_child_weight": 1 / 500,
    "batch_size": 1 / 20,
    "row_penalty": 1 / 500,
    "level_penalty": 1 / 50,
    "reg_lambda": 1 / 500,
}
"""Defaults in numbers of rows are limited to this share of the training rows, so that small data can be fitted, too."""


@dataclass(frozen=True)
class FittedModel:
    """A fitted scikit-learn pipeline and its input/output schema.

    `output`: that of the pipeline's last step, class probabilities (`predict_proba`) or the log odds of the
    positive class (`predict`). `graph`: an ONNX graph made from the pipeline whose scores differ from it by design
    (int8); it is exported in place of the pipeline's and compared with it.
    """

    pipeline: Pipeline
    signature: Signature
    output: Literal["probability", "log odds"] = "probability"
    graph: bytes | None = None

    def probability(self, table: pa.Table) -> Floats:
        """P(label = 1) for each row, float64 [n]."""
        frame = feature_frame(table, self.signature)
        # One BLAS thread, as in fitting: students are fitted on these scores, down to the last digits.
        with threadpool_limits(limits=1, user_api="blas"):
            if self.output == "probability":
                return np.asarray(self.pipeline.predict_proba(frame)[:, 1], dtype=np.float64)
            log_odds = np.asarray(self.pipeline.predict(frame), dtype=np.float64)
        return np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float64)


def hyperparameters(
    name: str, defaults: Mapping[str, Hyperparameters], overrides: Mapping[str, Hyperparameters], rows: int
) -> Hyperparameters:
    """The defaults of an estimator or technique for a number of training rows, overridden by a use case's values.

    Raises ConfigurationError for a name without defaults.
    """
    if name not in defaults:
        raise ConfigurationError("NS-MODEL-005", f"{name!r} cannot be fitted here; known are {sorted(defaults)}.")
    suited = {
        key: min(number(defaults[name], key), max(1, int(rows * share)))
        for key, share in LARGEST_SHARE_OF_ROWS.items()
        if key in defaults[name]
    }
    return {**defaults[name], **suited, **overrides.get(name, {})}
