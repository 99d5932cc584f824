"""Tables written one after another: one file, whose bytes do not depend on how the rows are divided; and read again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.core.parquet_file import BATCH_ROWS, fits_a_batch, row_batches, write_parquet
from nightshift.io.artifact_store import parquet_bytes


@pytest.mark.parametrize("rows", [0, 5, BATCH_ROWS, BATCH_ROWS + 1, 3 * BATCH_ROWS + 7])
@pytest.mark.parametrize("cuts", [[], [0, 3, 3], [1000, BATCH_ROWS - 1], [BATCH_ROWS + 1, 2 * BATCH_ROWS]])
def test_bytes_are_those_of_the_whole_table(tmp_path: Path, rows: int, cuts: list[int]) -> None:
    numbers = list(range(rows))
    texts = pa.array([f"text {n * 7919 % 100_003}" if n % 5 else None for n in numbers], pa.string())
    table = pa.table({"number": pa.array(numbers, pa.int64()), "text": texts})
    borders = [min(cut, rows) for cut in [0, *cuts, rows]]
    parts = [table.slice(start, end - start) for start, end in pairwise(borders)]
    path = tmp_path / "file"
    assert write_parquet(path, table.schema, parts) == rows
    assert path.read_bytes() == parquet_bytes(table)
    assert pq.read_metadata(path).num_rows == rows


@pytest.mark.parametrize("rows", [0, 1, BATCH_ROWS, BATCH_ROWS + 1, 3 * BATCH_ROWS + 7])
@pytest.mark.parametrize("row_group_size", [1000, BATCH_ROWS, 10 * BATCH_ROWS])
def test_batches_are_the_rows_in_their_order(tmp_path: Path, rows: int, row_group_size: int) -> None:
    table = pa.table({"number": pa.array(range(rows), pa.int64()), "half": pa.array([n / 2 for n in range(rows)])})
    pq.write_table(table, tmp_path / "file", row_group_size=row_group_size)
    file = pq.ParquetFile(tmp_path / "file")
    batches = list(row_batches(file))
    assert pa.Table.from_batches(batches, table.schema).equals(table)
    assert max((batch.num_rows for batch in batches), default=0) <= BATCH_ROWS
    assert pa.Table.from_batches(row_batches(file, ["half"]), table.select(["half"]).schema) == table.select(["half"])
    assert len(batches) <= 1 or not fits_a_batch(file)
