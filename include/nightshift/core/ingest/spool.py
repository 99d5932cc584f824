"""Rows in a local file, written and read in batches, so that they are never in memory as a whole.

Put here: how rows are kept between two passes over them. Keep out: what they mean.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.ipc


class Spool:
    """Rows of one schema in the order they were written. Write within a `with` block, read after it.

    `rows` and `nbytes`: their number, and their bytes in memory.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".arrows", delete=False) as file:
            self._path = file.name
        self.schema = schema
        self.rows = self.nbytes = 0
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_stream(self._path, schema, options=options)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, rows: pa.Table) -> None:
        """Add rows. Raises ArrowInvalid if they have another schema."""
        self._writer.write_table(rows)
        self.rows += rows.num_rows
        self.nbytes += rows.nbytes

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, some at a time; of all columns unless some are named, in the order of the schema."""
        included = None if columns is None else [self.schema.names.index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=included)
        with pa.OSFile(self._path) as file, pa.ipc.open_stream(file, options=options) as reader:
            yield from reader

    def reader(self) -> pa.RecordBatchReader:
        """All rows, for what reads a stream."""
        return pa.RecordBatchReader.from_batches(self.schema, self.batches())
