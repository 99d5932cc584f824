"""The executor that docker-compose.yaml names can be loaded from the lock."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CODE = """
from airflow.executors.executor_loader import ExecutorLoader
from airflow.providers.celery.executors.celery_executor import CeleryExecutor, app
from celery import Celery
assert ExecutorLoader.import_default_executor_cls()[0] is CeleryExecutor
assert isinstance(app, Celery)
"""


def test_the_executor_of_the_compose_file_loads(tmp_path):
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))
    executor = compose["x-environment"]["AIRFLOW__CORE__EXECUTOR"]
    assert executor == "CeleryExecutor"
    # In a process of its own: it reads Airflow's configuration, which this one has read already.
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__EXECUTOR": executor,
    }
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
