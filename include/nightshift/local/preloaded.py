"""Runs an Airflow component that forks its tasks, with the libraries of the steps imported beforehand.

    python -m nightshift.local.preloaded scheduler
    python -m nightshift.local.preloaded celery worker

LocalExecutor's workers are forked from the scheduler, Celery's from the worker's main process, and each task from one
of these, so that the libraries are loaded already: this saves seconds of processor time for each of some thirty tasks
per partition. Only third-party libraries are imported here: the pipeline's own code is imported by each task, so that
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
    """Import the libraries that are installed, then become `airflow` with this process's arguments."""
    for name in PRELOADED:
        # A missing library is reported by the step that needs it.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    sys.argv = ["airflow", *sys.argv[1:]]
    runpy.run_module("airflow", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
