"""Probe rows at the splits of boosted trees: on each threshold, and one float32 step to either side of it.

A converter that rounds a threshold, or swaps < and <=, gives nearly every real row the right score. It fails for a
value at the threshold, in a row that reaches that split: so for each split a real row that reaches it is looked up,
and only the split's own feature is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xgboost

from nightshift.core.arrays import evenly
from nightshift.core.compression.trees.boosted_trees import Split, leaf_ids, nodes, read_ensemble
from nightshift.core.gates.parity import as_float64
from nightshift.core.models.fitted import FittedModel

MOST_SPLITS = 20_000
MOST_REAL_ROWS = 10_000
SIDES = ("just below a split", "at a split", "just above a split")


@dataclass(frozen=True)
class SplitProbes:
    """Probe rows and the edge case of each (feature and side). The model has `splits` on numeric features; `probed` of
    them have rows here (three each), `reached` of those made from a real row that reaches the split."""

    rows: pa.Table
    strangeness: tuple[str, ...]
    splits: int
    probed: int
    reached: int

    @property
    def coverage(self) -> str:
        """The counts in words, for parity.json."""
        if not self.splits:
            return "no splits"
        which = "every split" if self.probed == self.splits else f"{self.probed} of {self.splits} splits, evenly spread"
        return f"{which} on a number, {self.reached} of them in a real row that gets there"


_SPLIT = np.dtype([("feature", np.int64), ("threshold", np.float32), ("row", np.int64)])
"""Feature position, threshold, and a row that reaches the split (-1: none does)."""


def split_probes(fitted: FittedModel, real: pa.Table, *, most_splits: int = MOST_SPLITS) -> SplitProbes:
    """Probe rows for every split of an XGBoost model on a numeric feature, made from real ones; none for other models.

    Of more than `most_splits` splits, that many are probed, evenly spread over features and thresholds.
    """
    real = as_float64(real, fitted.signature)
    few = real.take(pa.array(evenly(real.num_rows, MOST_REAL_ROWS)))
    splits = _splits(fitted, few)
    splits = splits[np.lexsort((splits["threshold"], splits["feature"]))]
    sample = splits[evenly(len(splits), most_splits)]
    reached = sample["row"] >= 0
    base = np.where(reached, sample["row"], np.arange(len(sample)) % few.num_rows)
    names = fitted.signature.numeric
    kinds = [[f"{name} {side}" for side in SIDES] for name in names]
    return SplitProbes(
        rows=_rows(few.take(pa.array(np.repeat(base, len(SIDES)))), names, sample),
        strangeness=tuple(kind for feature in sample["feature"] for kind in kinds[feature]),
        splits=len(splits),
        probed=len(sample),
        reached=int(reached.sum()),
    )


def _rows(base: pa.Table, names: tuple[str, ...], sample: npt.NDArray[np.void]) -> pa.Table:
    at = sample["threshold"]
    below, above = np.nextafter(at, np.float32(-np.inf)), np.nextafter(at, np.float32(np.inf))
    values = np.column_stack([below, at, above]).astype(np.float64).reshape(-1)
    features = np.repeat(sample["feature"], len(SIDES))
    for position in np.unique(features):
        name = names[position]
        mine = features == position
        column = np.where(mine, values, base[name].to_numpy())
        absent = ~mine & np.asarray(base[name].is_null().to_numpy())
        base = base.set_column(base.schema.get_field_index(name), name, pa.array(column, pa.float64(), mask=absent))
    return base


def _splits(fitted: FittedModel, real: pa.Table) -> npt.NDArray[np.void]:
    """All splits on numeric features, as _SPLIT."""
    splits: list[tuple[int, np.float32, int]] = []
    if isinstance(fitted.pipeline[-1], xgboost.XGBModel):
        leaves = leaf_ids(fitted, real, threads=1)
        for tree, reached in zip(read_ensemble(fitted).trees, leaves.T, strict=True):
            row_at = dict(zip(*(part.tolist() for part in np.unique(reached, return_index=True)), strict=True))
            # Children come after their parents; a row whose leaf is below a node passes that node.
            for node in reversed(nodes(tree)):
                if isinstance(node, Split):
                    row_at[node.id] = max(row_at.get(node.left.id, -1), row_at.get(node.right.id, -1))
                    splits.append((node.feature, node.threshold, row_at[node.id]))
    return np.array([one for one in splits if one[0] < len(fitted.signature.numeric)], _SPLIT)
