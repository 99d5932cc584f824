"""Tables written one after another: one file, whose bytes do not depend on how the rows are divided."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.io.artifact_store import ROW_GROUP_ROWS, parquet_bytes, write_parquet


@pytest.mark.parametrize("rows", [0, 5, ROW_GROUP_ROWS, ROW_GROUP_ROWS + 1, 3 * ROW_GROUP_ROWS + 7])
@pytest.mark.parametrize("cuts", [[], [0, 3, 3], [1000, ROW_GROUP_ROWS - 1], [ROW_GROUP_ROWS + 1, 2 * ROW_GROUP_ROWS]])
def test_bytes_are_those_of_the_whole_table(tmp_path: Path, rows: int, cuts: list[int]) -> None:
    numbers = list(range(rows))
    texts = pa.array([f"text {n * 7919 % 100_003}" if n % 5 else None for n in numbers], pa.string())
    table = pa.table({"number": pa.array(numbers, pa.int64()), "text": texts})
    borders = [min(cut, rows) for cut in [0, *cuts, rows]]
    parts = [table.slice(start, end - start) for start, end in pairwise(borders)]
    path = write_parquet(tmp_path / "file", table.schema, parts)
    assert path.read_bytes() == parquet_bytes(table)
    assert pq.read_metadata(path).num_rows == rows
