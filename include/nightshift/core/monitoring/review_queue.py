"""Choice of the predictions of a partition that a person reviews."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CERTAINTY = {"certainty": pa.float64(), "out_of_domain": pa.bool_(), "out_of_range": pa.int64()}
ORDER = [("outside", "descending"), ("certainty", "ascending"), ("beyond", "descending")]


def rows_to_review(predictions: Iterable[pa.Table], key: Sequence[str], score: str, most: int) -> pa.Table:
    """At most `most` predictions: those out of the domain first, then the least certain; those out of range break ties.

    `predictions`: published rows, some at a time, at least one table, with the columns of core.inference.certainty.
    Rows that are in the domain and of which there is no certainty, or a certainty of 1, are left out. Returns the key,
    `score`, `certainty`, `out_of_domain`, `out_of_range` and `reason` (string), in the order of review, rows alike in
    the order of the key.
    """
    order = [*ORDER, *((name, "ascending") for name in key)]
    candidates = map(_candidates, predictions)
    chosen = next(candidates).sort_by(order).slice(0, most)
    for more in candidates:
        chosen = pa.concat_tables([chosen, more]).sort_by(order).slice(0, most)
    columns = {name: chosen[name] for name in key} | {"score": chosen[score]}
    columns |= {name: chosen[name] for name in CERTAINTY}
    reasons = map(_reason, *(chosen[name].to_pylist() for name in ("outside", "certainty", "beyond")))
    return pa.table(columns | {"reason": pa.array(list(reasons), pa.string())})


def _candidates(predictions: pa.Table) -> pa.Table:
    """The rows that a person can be of help with, and by what they are ordered: `outside` and `beyond`."""
    for name, kind in CERTAINTY.items():
        # Scores of an earlier version of Nightshift have none.
        if name not in predictions.column_names:
            predictions = predictions.append_column(name, pa.nulls(predictions.num_rows, kind))
    outside = pc.fill_null(predictions["out_of_domain"], False)
    uncertain = pc.fill_null(pc.less(predictions["certainty"], 1.0), False)
    found = predictions.append_column("outside", pc.cast(outside, pa.int8()))
    found = found.append_column("beyond", pc.fill_null(predictions["out_of_range"], 0))
    return found.filter(pc.or_(outside, uncertain))


def _reason(outside: int, certainty: float | None, beyond: int) -> str:
    parts = ["out of the domain of its version"] if outside else []
    if certainty is not None:
        # Rounded down, so that it does not say 100 % of a row that is not certain.
        parts.append(f"certainty {np.floor(certainty * 100):.0f} %")
    if beyond:
        parts.append(f"{beyond} feature{'' if beyond == 1 else 's'} out of range")
    return ", ".join(parts)
