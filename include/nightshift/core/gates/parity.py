"""Parity of an exported model with the fitted one, row by row, including edge cases.

Exporters silently drop behaviour: where a tree sends missing values, what an encoder does with
an unseen category, a base score. Such errors show in single rows, not in averages, so every row
is compared, and edge cases of each feature are generated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nightshift.core.arrays import Floats, evenly
from nightshift.core.inference.onnx_model import Signature
from nightshift.documents.train import Compared

BATCH_ROWS = 20_000
"""Rows scored at once."""
PROBE_ROWS = 12
UNSEEN_CATEGORY = "\N{REPLACEMENT CHARACTER} never seen"
EXTREMES = {
    "zero": 0.0,
    "tiny": 1e-38,
    "huge": 1e30,
    "hugely negative": -1e30,
    "beyond float32": 1e300,
    "infinite": np.inf,
    "negatively infinite": -np.inf,
}
FINER_THAN_FLOAT32 = 1 + 1e-10
AS_DELIVERED = "as delivered"
EXAMPLES = 5


@dataclass(frozen=True)
class Probes:
    """Rows to score with two models; `strangeness[i]` describes the edge case that row i of `rows` is."""

    rows: pa.Table
    strangeness: tuple[str, ...]

    def take(self, positions: npt.NDArray[np.int64]) -> Probes:
        """The probes at `positions`, in this order."""
        return Probes(self.rows.take(pa.array(positions)), tuple(self.strangeness[i] for i in positions))

    def followed_by(self, rows: pa.Table, strangeness: Sequence[str]) -> Probes:
        """These probes, followed by `rows` with the same columns and their `strangeness`."""
        return Probes(pa.concat_tables([self.rows, rows]), (*self.strangeness, *strangeness))


def probe_rows(real: pa.Table, signature: Signature) -> Probes:
    """All real rows as delivered, then a few of them, evenly spaced, with one change at a time.

    Changes: each feature missing; all missing; each number at each of EXTREMES, just above and below its
    float32 value, and off it by less than float32 can represent; each category an unseen one. Numeric
    features become float64. Values that float32 cannot represent, such as infinities, are made missing by
    `onnx_model` before scoring; the rows test that both models agree then.
    """
    real = as_float64(real, signature)
    few = real.take(pa.array(evenly(real.num_rows, PROBE_ROWS)))
    tables, edge_cases = [real], [AS_DELIVERED] * real.num_rows
    for why, changed in _changes(few, signature):
        tables.append(changed.cast(real.schema))
        edge_cases += [why] * few.num_rows
    return Probes(pa.concat_tables(tables), tuple(edge_cases))


def _changes(few: pa.Table, signature: Signature) -> Iterator[tuple[str, pa.Table]]:
    everything_missing = few
    for name in (*signature.numeric, *signature.categorical):
        missing = _with(few, name, [None] * few.num_rows)
        everything_missing = _with(everything_missing, name, [None] * few.num_rows)
        yield f"{name} missing", missing
    yield "all features missing", everything_missing
    for name in signature.numeric:
        for what, value in EXTREMES.items():
            yield f"{name} {what}", _with(few, name, [value] * few.num_rows)
        values = np.asarray(few[name].to_numpy(), dtype=np.float64)
        for what, towards in (("just above", np.inf), ("just below", -np.inf)):
            yield f"{name} {what}", _with(few, name, np.nextafter(values.astype(np.float32), np.float32(towards)))
        yield f"{name} finer than float32", _with(few, name, values * FINER_THAN_FLOAT32)
    for name in signature.categorical:
        yield f"{name} unseen", _with(few, name, [UNSEEN_CATEGORY] * few.num_rows)


def as_float64(table: pa.Table, signature: Signature) -> pa.Table:
    """The table with its numeric features as float64."""
    for name in signature.numeric:
        if not pa.types.is_float64(table.schema.field(name).type):
            position = table.schema.get_field_index(name)
            table = table.set_column(position, name, table[name].cast(pa.float64(), safe=False))
    return table


def _with(table: pa.Table, name: str, values: Any) -> pa.Table:
    kind = table.schema.field(name).type
    array = pa.array(values, from_pandas=True)
    return table.set_column(table.schema.get_field_index(name), pa.field(name, kind), array.cast(kind, safe=False))


def compare(
    expected: Floats, scores: Floats, probes: Probes, bound: float, against: str, key: Sequence[str] = ()
) -> Compared:
    """Compare two models' probabilities [n] for the probes: `expected` are those of the model `against`.

    The result has an error if any two differ by more than `bound` or either is not a probability; it names the worst
    row (by the columns `key`) of each kind of edge case, and both scores.
    """
    if expected.shape != scores.shape or len(expected) != len(probes.strangeness):
        wrong = (
            f"against {against}: there are {len(probes.strangeness)} rows, {len(expected)} scores were expected and "
            f"{len(scores)} came. The graph must give one probability for each row; export it again."
        )
        return Compared(against=against, largest=None, bound=bound, wrong=wrong)
    difference = np.abs(expected - scores)
    valid = (expected >= 0) & (expected <= 1) & (scores >= 0) & (scores <= 1)
    wrong_rows = np.flatnonzero(~(valid & (difference <= bound)))
    if len(wrong_rows) == 0:
        return Compared(against=against, largest=float(difference.max(initial=0.0)), bound=bound)
    # The worst row of each kind of edge case, rows as delivered first, then the worst kinds: they identify the
    # feature.
    worst: dict[str, int] = {}
    for i in wrong_rows[np.argsort(-np.nan_to_num(difference[wrong_rows], nan=np.inf), kind="stable")]:
        worst.setdefault(probes.strangeness[i], int(i))
    shown = [row for _, row in sorted(worst.items(), key=lambda kind: kind[0] != AS_DELIVERED)][:EXAMPLES]
    rows = probes.rows.take(pa.array(shown)).to_pylist()
    examples = "; ".join(
        f"row {i} {', '.join(f'{name}={row[name]}' for name in key)} ({probes.strangeness[i]}): "
        f"{expected[i]:.7f} became {scores[i]:.7f}"
        for i, row in zip(shown, rows, strict=True)
    )
    wrong = (
        f"against {against}: {len(wrong_rows)} of {len(difference)} rows differ by more than {bound:g}, in "
        f"{len(worst)} kinds of rows; the worst of each: {examples}. Do not deploy this export: correct the "
        "converter or the preprocessing, then export again."
    )
    largest = float(np.max(np.nan_to_num(difference, nan=1.0)))
    return Compared(against=against, largest=largest, bound=bound, wrong=wrong)
