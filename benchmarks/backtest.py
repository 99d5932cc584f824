"""Walk the specs of flight_delay forward over March to December 2013 and compare the champion with the stated aims.

    python benchmarks/backtest.py [--rows FILE] [--spec NAME[,..]] [--every 7] [--from 2013-02-28] [--to 2013-12-29]

Training rows are computed from the replayed deliveries by the use case's own SQL, without any service, and written to
FILE; a FILE that is there is read instead. Exits with 1 if an aim is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import date
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pyarrow.parquet as pq
from flight_rows import training_rows

from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.core.lifecycle.state import State
from nightshift.declare.discovery import load_use_case
from nightshift.documents.backtest import BacktestResult
from nightshift.partitions import parse_partition
from nightshift.reports.backtest_text import lines
from nightshift.services.backtests import find_spec, walk_specs

LARGEST_LOG_LOSS, LEAST_AUC, LARGEST_GAP = 0.492, 0.725, 0.02


def missed(result: BacktestResult) -> list[str]:
    """The aims that the champion misses."""
    champion, frozen = result.one(result.champion), result.one(result.champion, "frozen")
    found = []
    if champion.log_loss > LARGEST_LOG_LOSS:
        found.append(f"log loss {champion.log_loss:.4f}, at most {LARGEST_LOG_LOSS} is the aim")
    if (champion.auc or 0) < LEAST_AUC:
        found.append(f"AUC {champion.auc or 0:.4f}, at least {LEAST_AUC} is the aim")
    for month, before in zip(champion.months, frozen.months, strict=True):
        if abs(month.calibration_gap) > LARGEST_GAP:
            found.append(
                f"calibration gap {month.calibration_gap:+.4f} in {month.month}, within {LARGEST_GAP} is the aim"
            )
        if month.log_loss >= before.log_loss:
            found.append(
                f"log loss {month.log_loss:.4f} in {month.month}, the frozen version's is {before.log_loss:.4f}"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--spec", default="")
    parser.add_argument("--every", type=int, default=7)
    parser.add_argument("--from", dest="first", type=parse_partition, default=date(2013, 2, 28))
    parser.add_argument("--to", dest="last", type=parse_partition, default=date(2013, 12, 29))
    arguments = parser.parse_args()
    use_case = load_use_case("flight_delay")
    path: Path | None = arguments.rows
    if path is not None and path.exists():
        rows = pq.read_table(path)
    else:
        start = time.perf_counter()
        rows = training_rows(use_case)
        print(f"computed {rows.num_rows} training rows in {time.perf_counter() - start:.0f} s", flush=True)
        if path is not None:
            pq.write_table(rows, path, compression="zstd")
    state = State()
    specs = [find_spec(use_case, {}, name) for name in arguments.spec.split(",") if name]
    start = time.perf_counter()
    result, _ = walk_specs(
        use_case,
        rows,
        state,
        specs,
        partition=max(rows[KNOWN_ON].unique().to_pylist()),
        first=arguments.first,
        last=arguments.last,
        refit_every=arguments.every,
        threads=2,
    )
    print("\n".join(lines(result)))
    print(f"\nwalked {len({one.spec_id for one in result.series})} specs in {time.perf_counter() - start:.0f} s")
    problems = missed(result)
    for problem in problems:
        print(f"missed: {problem}")
    if problems:
        sys.exit(1)


if __name__ == "__main__":
    main()
