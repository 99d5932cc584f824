"""Small files that inflate: they are rejected in a bounded amount of memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.declare.feeds import Column, Feed
from nightshift.errors import MalformedFile
from support.errors import raises_code
from support.landing import read_landed

COLUMNS = (Column("id", "int64"), Column("name", "string"))
FEED = Feed("tools", landed=COLUMNS, curated=COLUMNS, normalise=Path("unused.sql"), key=("id",))
LIMIT = 20_000_000
ALLOWED = 150_000_000
"""Growth of a process that reads all of them; each would take more than that by itself."""

LARGEST_GROWTH = 200_000_000
"""Of a process that lands 800,000 rows more, each of which would take 0.6 KiB if tables were held whole."""

# In a process of its own: its peak is that of the readers, not of the writers of these files.
READER = f"""
import json, re, sys
from pathlib import Path
from nightshift.core.ingest.landed_table import read_landed
from nightshift.declare.feeds import Column, Feed
from nightshift.errors import NightshiftError

def peak():
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

columns = (Column("id", "int64"), Column("name", "string"))
feed = Feed("tools", landed=columns, curated=columns, normalise=Path("unused.sql"), key=("id",), max_bytes={LIMIT})
folder = Path(sys.argv[1])
(folder / "warm").write_bytes(b"id,name\\n1,saw\\n")
read_landed(feed, "warm.csv", folder / "warm", folder)
before, codes = peak(), {{}}
for path in map(Path, sys.argv[2:]):
    try:
        read_landed(feed, path.name, path, folder)
    except NightshiftError as error:
        codes[path.name] = error.code
print(json.dumps([codes, peak() - before]))
"""


def repeated_text(path: Path) -> None:
    """A text of a megabyte in a dictionary, and 20,000 references to it."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 1_000_000]))
    # Without the Arrow schema: it would be read as a dictionary by itself.
    pq.write_table(pa.table({"id": pa.array(range(20_000)), "name": text}), path, store_schema=False)


def repeated_rows(path: Path) -> None:
    """20 million rows of nulls, which take a few bytes a million."""
    rows = pa.table({"id": pa.nulls(1_000_000, pa.int64()), "name": pa.nulls(1_000_000, pa.string())})
    with pq.ParquetWriter(path, rows.schema) as writer:
        for _ in range(20):
            writer.write_table(rows)


def one_page(path: Path) -> None:
    """One text of 200 MB of spaces."""
    pq.write_table(pa.table({"id": [1], "name": [" " * 200_000_000]}), path, compression="zstd", use_dictionary=False)


def nested(path: Path) -> None:
    """A list of 30 million numbers where a text should be."""
    values = pa.ListArray.from_arrays(pa.array([0, 30_000_000], pa.int32()), pa.nulls(30_000_000, pa.int64()))
    pq.write_table(pa.table({"id": [1], "name": values}), path)


def compressed(path: Path) -> None:
    path.write_bytes(gzip.compress(b"id,name\n" + b"1,saw\n" * 5_000_000, 1))


def short_rows(path: Path) -> None:
    """Rows with a cell too few, each of which would be quarantined."""
    path.write_bytes(b"id,name\n" + b"1\n" * 1_000_000)


def empty_rows(path: Path) -> None:
    path.write_bytes(b"id,name\n" + b",\n" * 1_000_000)


BOMBS = {
    "repeated_text.parquet": (repeated_text, "NS-LAND-113"),
    "repeated_rows.parquet": (repeated_rows, "NS-LAND-113"),
    "one_page.parquet": (one_page, "NS-LAND-113"),
    "nested.parquet": (nested, "NS-LAND-017"),
    "compressed.csv": (compressed, "NS-LAND-112"),
    "short_rows.csv": (short_rows, "NS-LAND-004"),
    "empty_rows.csv": (empty_rows, "NS-LAND-113"),
}


def test_what_inflates_is_rejected_in_bounded_memory(tmp_path: Path) -> None:
    for name, (write, _) in BOMBS.items():
        write(tmp_path / name)
        assert (tmp_path / name).stat().st_size < LIMIT
    paths = [str(tmp_path / name) for name in BOMBS]
    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path), *paths], capture_output=True, text=True, check=True
    )
    codes, growth = json.loads(done.stdout)
    assert codes == {name: code for name, (_, code) in BOMBS.items()}
    assert growth < ALLOWED


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_file_beyond_the_limit_is_not_read(suffix: str) -> None:
    with raises_code(MalformedFile, "NS-LAND-113", "10 bytes", "max_bytes"):
        read_landed(replace(FEED, max_bytes=10), f"tools.{suffix}", b"id,name\n1,saw\n")


# DuckDB holds tables in memory up to a limit of its own: lowered, so that a file of seconds is beyond it.
GROWING = """
import re, sys
from pathlib import Path
from nightshift.core import duckdb_session
from nightshift.core.ingest.curated_table import curate
from nightshift.core.ingest.landed_table import read_landed
from nightshift.declare.feeds import Column, Feed

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

duckdb_session.MEMORY = "100MB"
columns = (Column("id", "int64"), Column("name", "string"))
folder, peaks = Path(sys.argv[1]), []
feed = Feed("tools", landed=columns, curated=columns, normalise=folder / "tools.sql", key=("id",))
for rows in (200_000, 1_000_000):
    file = folder / "tools.csv"
    with file.open("w") as lines:
        lines.write("id,name\\n")
        lines.writelines(f"{number},saw {number}\\n" for number in range(rows))
    curate(feed, [read_landed(feed, "tools.csv", file, folder).rows], folder)
    peaks.append(peak())
print(peaks[1] - peaks[0])
"""


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    (tmp_path / "tools.sql").write_text("FROM landed")
    command = [sys.executable, "-c", GROWING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < LARGEST_GROWTH
