"""Parity of an exported version with the fitted model, compared in the process that fitted it."""

from __future__ import annotations

import pyarrow as pa

from nightshift.core.compression.networks.quantization import TOLERANCE as QUANTIZED_TOLERANCE
from nightshift.core.gates.parity import BATCH_ROWS, compare, probe_rows
from nightshift.core.gates.split_probes import split_probes
from nightshift.core.inference.onnx_model import feed_of, load_session, score_in_batches
from nightshift.core.versions.version import ExportedVersion
from nightshift.declare.use_case import UseCase
from nightshift.documents.train import Parity


def check_version_parity(use_case: UseCase, version: ExportedVersion, rows: pa.Table) -> Parity:
    """Compare a version's graph with its fitted model. A difference is part of the result and does not raise."""
    signature, tolerance, key = version.signature, use_case.training.parity_tolerance, use_case.key_columns
    splits = split_probes(version.fitted, rows)
    probes = probe_rows(rows, signature).followed_by(splits.rows, splits.strangeness)
    feed = feed_of(probes.rows, signature)
    expected = version.fitted.probability(probes.rows)
    scores = score_in_batches(load_session(version.graph), feed, BATCH_ROWS)
    if version.full_precision is None:
        comparisons = [compare(expected, scores, probes, tolerance, "fitted", key)]
    else:
        full_scores = score_in_batches(load_session(version.full_precision), feed, BATCH_ROWS)
        comparisons = [
            compare(expected, full_scores, probes, tolerance, "fitted, in full precision", key),
            compare(full_scores, scores, probes, QUANTIZED_TOLERANCE, "full precision", key),
        ]
    return Parity(probes=len(scores), splits=splits.coverage, compared=tuple(comparisons))
