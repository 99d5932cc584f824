"""Starts Airflow's scheduler with the libraries of the steps imported beforehand.

On one machine LocalExecutor forks its workers from the scheduler and each task from a worker, so
these libraries are loaded already: this saves seconds of processor time for each of some thirty tasks per
partition. Only third-party libraries are imported here: the pipeline's own code is imported by each task, so that
a change to it takes effect at once.
"""

from __future__ import annotations

import contextlib
import importlib
import runpy
import sys

PRELOADED = (
    "boto3",
    "pyarrow.parquet",
    "pandas",
    "duckdb",
    "psycopg",
    "great_expectations",
    "feast",
    "mlflow",
    "sklearn.linear_model",
    "xgboost",
    "onnxruntime",
    "onnxmltools",
    "skl2onnx",
    "scipy.stats",
    "jinja2",
    "matplotlib.figure",
)


def main() -> None:
    """Import the libraries that are installed, then become `airflow scheduler`."""
    for name in PRELOADED:
        # A missing library is reported by the step that needs it.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    sys.argv = ["airflow", "scheduler", *sys.argv[1:]]
    runpy.run_module("airflow", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
