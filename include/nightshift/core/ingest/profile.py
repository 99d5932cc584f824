"""Profiles of tables: statistics of each column."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.ingest.quarantine import LINEAGE

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
TOP_VALUES = 10


def profile_table(table: pa.Table) -> dict[str, Any]:
    """JSON-safe profile: `rows`, and per column `type`, `nulls`, `distinct` (nulls left out), `min`, `max`.

    Numbers also have `mean`, `std` (of the population) and `quantiles` (0.01 to 0.99, linear);
    all others the ten most frequent values with their counts. Dates and times are ISO text (UTC).
    Where a table has no rows, statistics are None.
    """
    names = [name for name in table.column_names if name not in LINEAGE]
    return {"rows": table.num_rows, "columns": {name: _profile_column(table[name]) for name in names}}


def profile_summary(profile: dict[str, Any]) -> dict[str, Any]:
    """The short form for a manifest: rows, share of nulls where there are any, mean of numbers."""
    rows, columns = profile["rows"], profile["columns"]
    return {
        "rows": rows,
        "null_share": {name: round(column["nulls"] / rows, 4) for name, column in columns.items() if column["nulls"]},
        "mean": {name: round(column["mean"], 4) for name, column in columns.items() if column.get("mean") is not None},
    }


def _profile_column(values: pa.ChunkedArray) -> dict[str, Any]:
    filled = values.drop_null()
    profile: dict[str, Any] = {
        "type": str(values.type),
        "nulls": values.null_count,
        "distinct": pc.count_distinct(filled).as_py(),
        **{name: _json_safe(bound) for name, bound in pc.min_max(filled).as_py().items()},
    }
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        quantiles = pc.quantile(filled, q=list(QUANTILES)).to_pylist()
        profile["mean"] = pc.mean(filled).as_py()
        profile["std"] = pc.stddev(filled).as_py()
        profile["quantiles"] = dict(zip(map(str, QUANTILES), quantiles, strict=True))
    else:
        counts = pc.value_counts(filled).to_pylist()
        counts.sort(key=lambda entry: (-entry["counts"], str(entry["values"])))
        profile["top_values"] = [[_json_safe(e["values"]), e["counts"]] for e in counts[:TOP_VALUES]]
    return profile


def _json_safe(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
