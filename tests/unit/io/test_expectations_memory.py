"""Great Expectations over a large table: the memory does not grow with its rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from nightshift.core.parquet_file import BATCH_ROWS, write_parquet

GROUPS = 40
ALLOWED = 200_000_000
"""Growth beyond that of a few batches; all rows as a frame of pandas would take 500 MB more."""

# In a process of its own, whose peak is that of the expectations.
EXAMINER = """
import re, sys
from datetime import date
from pathlib import Path
import pyarrow as pa
import pyarrow.parquet as pq
from flight_delay.use_case import USE_CASE
from nightshift.declare.feeds import Expectation, Feed
from nightshift.io.expectation_arguments import suite_parameters
from nightshift.io.expectations import examine

def peak():
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

regex = Expectation("expect_column_values_to_match_regex", {"column": "text", "regex": "^x"}, "warning", "no text")
rows = Expectation("expect_table_row_count_to_be_between", {"min_value": 1}, "critical", "no rows")
feed = Feed("weather", (), (), Path("unused.sql"), (), (regex, rows))
parameter = suite_parameters(USE_CASE, date(2013, 2, 12), lambda feed, column: pa.array([]))
peaks = []
for path in sys.argv[1:]:
    verdict = examine(USE_CASE, feed, pq.ParquetFile(path), parameter)
    peaks.append(peak())
print(peaks[1] - peaks[0], verdict.rows("warning"), verdict.findings[1].observed)
"""


def test_memory_is_that_of_a_batch(tmp_path: Path) -> None:
    numbers = np.arange(BATCH_ROWS)
    text = pa.array([f"{'y' if n % 1000 == 0 else 'x'}{n:060}" for n in numbers])
    group = pa.table({"text": text, **{f"other_{n}": pa.array(numbers) for n in range(4)}})
    files = [tmp_path / str(n) for n in (6, GROUPS)]
    for file in files:
        write_parquet(file, group.schema, [group] * int(file.name))
    command = [sys.executable, "-c", EXAMINER, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    growth, unexpected, *observed = done.stdout.split()
    assert int(unexpected) == GROUPS * 66
    assert observed == ["observed", str(GROUPS * BATCH_ROWS)]
    assert int(growth) < ALLOWED
