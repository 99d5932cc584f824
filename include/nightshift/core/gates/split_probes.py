"""Rows at the splits of boosted trees: on each threshold, and one float32 step to either side of it.

A converter that rounds a threshold, or takes < for <=, is right about nearly every real row. It is wrong
about a value right at the threshold, in a row that gets as far as that split: so for each split a real
row is looked up that does, and only the split's own feature is set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xgboost

from nightshift.core.arrays import Float32s, Integers
from nightshift.core.compression.trees.boosted_trees import Split, leaf_ids, nodes, read_ensemble
from nightshift.core.gates.parity import as_float64
from nightshift.core.models.estimators import FittedModel

MOST_SPLITS = 20_000
MOST_REAL_ROWS = 10_000
SIDES = ("just below a split", "at a split", "just above a split")


@dataclass(frozen=True)
class SplitProbes:
    """The rows and what is strange about each (feature and side). `splits` on numeric features were found in
    the model, `asked` of them have rows here (three each), `reached` of those in a row that gets there."""

    rows: pa.Table
    strangeness: tuple[str, ...]
    splits: int
    asked: int
    reached: int

    @property
    def coverage(self) -> str:
        """In words."""
        if not self.splits:
            return "no splits"
        which = "every split" if self.asked == self.splits else f"{self.asked} of {self.splits} splits, evenly spread"
        return f"{which} on a number, {self.reached} of them in a real row that gets there"


@dataclass(frozen=True)
class _Splits:
    """Parallel arrays: feature position, threshold, and a row that gets there (-1: none was found)."""

    feature: Integers
    threshold: Float32s
    row: Integers

    def take(self, positions: Integers) -> _Splits:
        return _Splits(self.feature[positions], self.threshold[positions], self.row[positions])


def split_probes(fitted: FittedModel, real: pa.Table, *, most_splits: int = MOST_SPLITS) -> SplitProbes:
    """Rows for every split of an XGBoost model on a numeric feature, made from real ones; none for other models.

    Of more than `most_splits` splits, so many are asked, evenly spread over features and thresholds.
    """
    real = as_float64(real, fitted.signature)
    spread = np.unique(np.linspace(0, real.num_rows - 1, min(real.num_rows, MOST_REAL_ROWS)).astype(np.int64))
    few = real.take(pa.array(spread))
    found = _splits(fitted, few)
    order = np.lexsort((found.threshold, found.feature))
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), most_splits)).astype(np.int64))]
    asked = found.take(chosen)
    known = asked.row >= 0
    base = np.where(known, asked.row, np.arange(len(chosen)) % few.num_rows)
    names = fitted.signature.numeric
    kinds = [[f"{name} {side}" for side in SIDES] for name in names]
    return SplitProbes(
        rows=_rows(few.take(pa.array(np.repeat(base, len(SIDES)))), names, asked),
        strangeness=tuple(kind for feature in asked.feature for kind in kinds[feature]),
        splits=len(order),
        asked=len(chosen),
        reached=int(known.sum()),
    )


def _rows(base: pa.Table, names: tuple[str, ...], asked: _Splits) -> pa.Table:
    below = np.nextafter(asked.threshold, np.float32(-np.inf))
    above = np.nextafter(asked.threshold, np.float32(np.inf))
    values = np.column_stack([below, asked.threshold, above]).astype(np.float64).reshape(-1)
    features = np.repeat(asked.feature, len(SIDES))
    for position in np.unique(features):
        name = names[position]
        mine = features == position
        column = np.where(mine, values, base[name].to_numpy())
        absent = ~mine & np.asarray(base[name].is_null().to_numpy())
        base = base.set_column(base.schema.get_field_index(name), name, pa.array(column, pa.float64(), mask=absent))
    return base


def _splits(fitted: FittedModel, real: pa.Table) -> _Splits:
    """All splits on numeric features."""
    found: list[tuple[int, np.float32, int]] = []
    if isinstance(fitted.pipeline[-1], xgboost.XGBModel):
        leaves = leaf_ids(fitted, real, threads=1)
        for tree, reached in zip(read_ensemble(fitted).trees, leaves.T, strict=True):
            row_at = dict(zip(*(part.tolist() for part in np.unique(reached, return_index=True)), strict=True))
            # Children come after their parents; a row that ends below a node passes it.
            for node in reversed(nodes(tree)):
                if isinstance(node, Split):
                    row_at[node.id] = max(row_at.get(node.left.id, -1), row_at.get(node.right.id, -1))
                    found.append((node.feature, node.threshold, row_at[node.id]))
    numeric = [one for one in found if one[0] < len(fitted.signature.numeric)]
    feature, threshold, row = zip(*numeric, strict=True) if numeric else ((), (), ())
    return _Splits(np.array(feature, np.int64), np.array(threshold, np.float32), np.array(row, np.int64))
