"""Does an exported version give the scores of the fitted model? Compared in the process that fitted it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from nightshift.core.compression.quantization import TOLERANCE as QUANTIZED_TOLERANCE
from nightshift.core.models.version import ExportedVersion
from nightshift.core.onnx_model import ask_in_batches, feed_of, load_session
from nightshift.core.parity import Floats, Probes, compare_answers, probe_rows
from nightshift.core.split_probes import split_probes
from nightshift.errors import ParityError
from nightshift.usecase import UseCase

BATCH_ROWS = 20_000


@dataclass(frozen=True)
class Compared:
    """One comparison: the largest difference of two scores of a row, the bound, and what was wrong ("": nothing)."""

    against: str
    largest: float | None
    bound: float
    wrong: str = ""


def check_version_parity(use_case: UseCase, version: ExportedVersion, rows: pa.Table) -> dict[str, Any]:
    """What `parity.json` holds: `probes` (rows compared), `splits` (how well splits of trees are covered) and
    `compared`. A version that differs is a result, not an error."""
    signature, tolerance = version.signature, use_case.training.parity_tolerance
    splits = split_probes(version.fitted, rows)
    probes = probe_rows(rows, signature).followed_by(splits.rows, splits.strangeness)
    feed = feed_of(probes.rows, signature)
    expected = version.fitted.probability(probes.rows)
    scores = ask_in_batches(load_session(version.graph), feed, BATCH_ROWS)
    if version.full_precision is None:
        found = [compare(use_case, expected, scores, probes, tolerance, "fitted")]
    else:
        full = ask_in_batches(load_session(version.full_precision), feed, BATCH_ROWS)
        found = [
            compare(use_case, expected, full, probes, tolerance, "fitted, in full precision"),
            compare(use_case, full, scores, probes, QUANTIZED_TOLERANCE, "full precision"),
        ]
    return {"probes": len(scores), "splits": splits.coverage, "compared": [asdict(one) for one in found]}


def compare(
    use_case: UseCase, expected: Floats, scores: Floats, probes: Probes, bound: float, against: str
) -> Compared:
    """Two scores of each probe."""
    what = f"{use_case.name} against {against}"
    try:
        return Compared(
            against, compare_answers(expected, scores, probes, bound, what=what, key=tuple(use_case.key_columns)), bound
        )
    except ParityError as error:
        same_shape = expected.shape == scores.shape
        found = float(np.max(np.nan_to_num(np.abs(expected - scores), nan=1.0))) if same_shape else None
        return Compared(against, found, bound, str(error))
