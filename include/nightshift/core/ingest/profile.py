"""Profiles of tables: statistics of each column."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.ingest.quarantine import LINEAGE
from nightshift.documents.ingest import ColumnProfile, TableProfile

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
TOP_VALUES = 10


def profile_table(table: pa.Table) -> TableProfile:
    """The profile of a table's columns, lineage left out."""
    names = [name for name in table.column_names if name not in LINEAGE]
    return TableProfile(rows=table.num_rows, columns={name: _profile_column(table[name]) for name in names})


def profile_summary(profile: TableProfile) -> dict[str, int | dict[str, float]]:
    """The short form for a manifest: rows, share of nulls where there are any, mean of numbers."""
    rows, columns = profile.rows, profile.columns
    return {
        "rows": rows,
        "null_share": {name: round(column.nulls / rows, 4) for name, column in columns.items() if column.nulls},
        "mean": {name: round(column.mean, 4) for name, column in columns.items() if column.mean is not None},
    }


def _profile_column(values: pa.ChunkedArray) -> ColumnProfile:
    filled = values.drop_null()
    profile = ColumnProfile(
        type=str(values.type),
        nulls=values.null_count,
        distinct=pc.count_distinct(filled).as_py(),
        **{name: _json_safe(bound) for name, bound in pc.min_max(filled).as_py().items()},
    )
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        quantiles = pc.quantile(filled, q=list(QUANTILES)).to_pylist()
        numeric = {
            "mean": pc.mean(filled).as_py(),
            "std": pc.stddev(filled).as_py(),
            "quantiles": dict(zip(map(str, QUANTILES), quantiles, strict=True)),
        }
        return profile.model_copy(update=numeric)
    counts = pc.value_counts(filled).to_pylist()
    counts.sort(key=lambda entry: (-entry["counts"], str(entry["values"])))
    top_values = tuple((_json_safe(entry["values"]), entry["counts"]) for entry in counts[:TOP_VALUES])
    return profile.model_copy(update={"top_values": top_values})


def _json_safe(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
