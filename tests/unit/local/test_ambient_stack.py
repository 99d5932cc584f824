"""Tests and benchmarks see no stack that they did not start, though the shell may name one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from nightshift.errors import ConfigurationError
from nightshift.local.layout import Layout
from nightshift.local.processes import forget_ambient_stack
from nightshift.local.stack import Stack
from nightshift.settings import load_settings
from support.errors import raises_code

ROOT = Path(__file__).resolve().parents[3]
ELSES = "postgresql://somebody@elses/warehouse"
STACK = (
    "NIGHTSHIFT_WAREHOUSE_URL",
    "NIGHTSHIFT_BUCKET",
    "AWS_ENDPOINT_URL",
    "MLFLOW_TRACKING_URI",
    "AIRFLOW_HOME",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
)


def test_what_names_a_stack_is_forgotten_and_nothing_else() -> None:
    others = {"PATH": "/bin", "HOME": "/root", "NIGHTSHIFT_RUNTIMES_DIR": "/runtimes", "MLFLOW_DISABLE_TELEMETRY": "1"}
    environment = dict.fromkeys(STACK, ELSES) | others
    forget_ambient_stack(environment)
    assert environment == others


def test_no_test_sees_a_stack_of_the_shell() -> None:
    assert ELSES not in os.environ.values()
    assert not Layout.default().folder.exists()
    with raises_code(ConfigurationError, "NS-LOCAL-014"):
        Stack().environment()


def test_no_test_sees_one_in_a_shell_that_names_one() -> None:
    inner = f"{Path(__file__)}::{test_no_test_sees_a_stack_of_the_shell.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", inner]
    named = dict.fromkeys((*STACK, "NIGHTSHIFT_LOCAL_DIR"), ELSES)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **named})
    assert done.returncode == 0, done.stdout[-3000:]


class Reached(Exception):
    """The benchmark has come as far as its measurements."""


def test_benchmarks_of_load_use_their_own_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("load_tasks", ROOT / "benchmarks" / "load_tasks.py")
    assert spec
    assert spec.loader
    load_tasks = importlib.util.module_from_spec(spec)
    # Its dataclass looks for its module there.
    monkeypatch.setitem(sys.modules, "load_tasks", load_tasks)
    spec.loader.exec_module(load_tasks)
    seen = []

    def measure(folder, rows):
        seen.append(load_settings())
        raise Reached

    @contextmanager
    def running(folder):
        place = SimpleNamespace(url=lambda name: f"postgresql://own/{name}")
        yield SimpleNamespace(s3_environment=dict, postgres=SimpleNamespace(place=place))

    monkeypatch.setattr(load_tasks, "running", running)
    monkeypatch.setattr(sys, "argv", ["load", "--rows", "1"])
    # A redis that is not there would stop the benchmark, though it has no use for one.
    named = dict.fromkeys(STACK, ELSES) | {"NIGHTSHIFT_FEAST_ONLINE_STORE": "redis"}
    load_settings.cache_clear()
    with mock.patch.dict(os.environ, named), pytest.raises(Reached):
        load_tasks.main("", lambda name, folder, rows: None, measure)
    load_settings.cache_clear()
    (settings,) = seen
    assert settings.warehouse_url.get_secret_value() == "postgresql://own/warehouse"
    assert settings.feast_online_store == "postgres"
