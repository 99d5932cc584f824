"""How long the DAG files take to parse with 1, 20 and 200 use cases.

    python benchmarks/parsing.py [--cases 1,20,200]

Use cases are copies of one of `nightshift new`. Each file is parsed in a process of its own by Airflow's DagBag, as the
DAG processor does, without the import of Airflow. Exits with 1 if a file takes as much processor time as Airflow allows
seconds (`dagbag_import_timeout`), or if that of all files grows by more than STEEPEST times the number of use cases.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nightshift.declare.discovery import PROJECT_ROOT, ROOTS_VARIABLE
from nightshift.local import new_use_case, processes

FIRST = "case_000"
STEEPEST = 1.2
LIMIT_SECONDS = 30.0
"""Airflow's default `dagbag_import_timeout`."""
PARSE = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
started = time.process_time()
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
took = time.process_time() - started
print(json.dumps({"processor": took, "dags": len(bag.dags)}))
"""


def copies(root: Path, cases: int) -> None:
    """Use cases below a root: one as `nightshift new` writes it, and copies of it under other names."""
    written = new_use_case.write(FIRST, root)
    for number, path in itertools.product(range(1, cases), written):
        name = f"case_{number:03}"
        target = root / str(path.relative_to(root)).replace(FIRST, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes().replace(FIRST.encode(), name.encode()))


def parse(root: Path, home: Path) -> dict[str, dict[str, float]]:
    """Of each DAG file: seconds of processor time, and the number of DAGs."""
    environment = os.environ | {
        ROOTS_VARIABLE: str(root),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # Other work on the machine must not end a file.
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "600",
        "PYTHONPATH": os.pathsep.join(map(str, (PROJECT_ROOT / "dags", PROJECT_ROOT / "include"))),
    }
    measured = {}
    for file in sorted((PROJECT_ROOT / "dags").glob("*.py")):
        command = [sys.executable, "-c", PARSE, str(file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{file.name} does not parse: {done.stderr[-3000:]}")
        measured[file.name] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    """Measure, print, and exit with 1 if a limit is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="1,20,200")
    cases = [int(one) for one in parser.parse_args().cases.split(",")]
    processes.forget_ambient_stack(os.environ)
    folder = Path(tempfile.mkdtemp(prefix="nightshift-bench-"))
    missed, totals = [], {}
    try:
        for number in cases:
            root = folder / str(number)
            copies(root, number)
            measured = parse(root, folder / "airflow")
            slowest = max(measured, key=lambda name: measured[name]["processor"])
            took = measured[slowest]["processor"]
            totals[number] = sum(one["processor"] for one in measured.values())
            dags = sum(one["dags"] for one in measured.values())
            print(
                f"{number:4} use cases: {dags:5.0f} DAGs, all files {totals[number]:7.1f} s of processor time, the "
                f"slowest ({slowest}) {took:5.1f} s, limit {LIMIT_SECONDS:.0f}",
                flush=True,
            )
            missed += [f"{slowest} with {number} use cases"] if took >= LIMIT_SECONDS else []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for few, many in itertools.pairwise(sorted(totals)):
        growth = totals[many] / totals[few] / (many / few)
        print(f"{few} to {many} use cases: processor time per use case times {growth:.2f}")
        missed += [f"growth from {few} to {many}"] if growth > STEEPEST else []
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
