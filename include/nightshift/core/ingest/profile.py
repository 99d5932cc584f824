"""Profiles of tables: statistics of each column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from nightshift.core.duckdb_session import duckdb_session
from nightshift.core.ingest.quarantine import LINEAGE
from nightshift.documents.ingest import ColumnProfile, TableProfile

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
TOP_VALUES = 10


def profile_table(rows: ds.Dataset) -> TableProfile:
    """The profile of the columns of a table or file, lineage left out; numbers are in memory one column at a time."""
    columns: dict[str, ColumnProfile] = {}
    for field in rows.schema:
        if field.name not in LINEAGE:
            is_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
            columns[field.name] = (_profile_numbers if is_number else _profile_values)(rows, field)
    return TableProfile(rows=rows.count_rows(), columns=columns)


def profile_summary(profile: TableProfile) -> dict[str, int | dict[str, float]]:
    """The short form for a manifest: rows, share of nulls where there are any, mean of numbers."""
    rows, columns = profile.rows, profile.columns
    return {
        "rows": rows,
        "null_share": {name: round(column.nulls / rows, 4) for name, column in columns.items() if column.nulls},
        "mean": {name: round(column.mean, 4) for name, column in columns.items() if column.mean is not None},
    }


def _profile_numbers(rows: ds.Dataset, field: pa.Field) -> ColumnProfile:
    values = rows.to_table(columns=[field.name])[field.name]
    filled = values.drop_null()
    quantiles = pc.quantile(filled, q=list(QUANTILES)).to_pylist()
    # Arrow counts by bits too, in a hash table that takes ten times the memory of the values.
    bits = filled.to_numpy().view(f"u{field.type.bit_width // 8}")
    return ColumnProfile(
        type=str(field.type),
        nulls=values.null_count,
        distinct=len(np.unique(bits)),
        **pc.min_max(filled).as_py(),
        mean=pc.mean(filled).as_py(),
        std=pc.stddev(filled).as_py(),
        quantiles=dict(zip(map(str, QUANTILES), quantiles, strict=True)),
    )


def _profile_values(rows: ds.Dataset, field: pa.Field) -> ColumnProfile:
    # Texts that differ in every row, as keys do, would take more memory than all numbers: DuckDB moves them to disk.
    with duckdb_session(rows=rows.scanner(columns={"value": ds.field(field.name)}).to_reader()) as session:
        session.execute("CREATE TABLE counts AS SELECT value, count(*) AS n FROM rows GROUP BY value")
        ((nulls,),) = session.execute("SELECT coalesce(sum(n), 0) FROM counts WHERE value IS NULL").fetchall()
        bounds = session.execute("SELECT min(value) AS min, max(value) AS max, count(value) AS distinct FROM counts")
        (found,) = bounds.to_arrow_table().to_pylist()
        top = session.execute(f"FROM counts WHERE value IS NOT NULL ORDER BY n DESC, value LIMIT {TOP_VALUES}")
        top_values = tuple((_json_safe(one["value"]), one["n"]) for one in top.to_arrow_table().to_pylist())
    return ColumnProfile(
        type=str(field.type),
        nulls=int(nulls),
        top_values=top_values,
        **{name: _json_safe(value) for name, value in found.items()},
    )


def _json_safe(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
