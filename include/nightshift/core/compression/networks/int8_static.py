"""Static int8 quantization: weights and activations, with scales calibrated on training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from nightshift.core.compression.networks.quantization import QUANTIZED, quantized
from nightshift.core.compression.problem import Problem
from nightshift.core.inference.onnx_model import feed_of
from nightshift.core.models.fitted import FittedModel

CALIBRATION_ROWS = 4000


class _Rows(CalibrationDataReader):  # type: ignore[misc]
    """One batch of training rows."""

    def __init__(self, feed: dict[str, npt.NDArray[Any]]) -> None:
        self._feeds = iter([feed])

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self._feeds, None)


def int8_static(model: FittedModel, problem: Problem) -> FittedModel:
    """The model with an int8 graph. Raises NotApplicable for trees, and where int8 saves no bytes.

    Scales are fixed by the smallest and largest activations of some training rows, so a row's score
    does not depend on the other rows of its batch.
    """
    chosen = problem.fitting[:: max(1, len(problem.fitting) // CALIBRATION_ROWS)]
    rows = problem.train.take(np.asarray(chosen))
    feed = feed_of(rows, model.signature)

    def quantize(source: Path, path: Path, leave: list[str]) -> None:
        quantize_static(
            source,
            path,
            _Rows(feed),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=leave,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )

    return quantized(model, quantize)
