"""Provenance of an artifact: code version, lock hash, library versions, host and orchestrator run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache

from nightshift.artifact import Attempt
from nightshift.declare.discovery import PROJECT_ROOT

LIBRARIES = (
    "apache-airflow",
    "great-expectations",
    "feast",
    "scikit-learn",
    "xgboost-cpu",
    "onnx",
    "onnxruntime",
    "skl2onnx",
    "onnxmltools",
    "optuna",
    "scipy",
    "mlflow",
    "pandas",
    "numpy",
    "pyarrow",
    "duckdb",
)

CURRENT_ATTEMPT: ContextVar[Attempt | None] = ContextVar("current_attempt", default=None)
"""Set by the caller of a step (dagkit, the CLI, a test); read when a manifest is written."""


@cache
def code_version() -> str:
    """Hash over every source file of the pipeline: changes when code, SQL or a declaration changes.

    NIGHTSHIFT_CODE_VERSION (a commit id, set when an image is built) takes precedence.
    """
    commit = os.environ.get("NIGHTSHIFT_CODE_VERSION")
    if commit:
        return commit
    digest = hashlib.sha256()
    for folder in ("include", "feature_repo", "dags", "plugins"):
        for path in sorted((PROJECT_ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".sql", ".yaml"}:
                digest.update(str(path.relative_to(PROJECT_ROOT)).encode())
                digest.update(path.read_bytes())
    return "sources-" + digest.hexdigest()[:16]


@cache
def lock_sha256() -> str:
    """SHA-256 of requirements.txt, or "" if the file does not exist."""
    path = PROJECT_ROOT / "requirements.txt"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change a result, and of Python."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def finished_attempt() -> Attempt:
    """The current attempt with host and timings filled in, as of now."""
    attempt = CURRENT_ATTEMPT.get() or Attempt()
    now = datetime.now(UTC)
    started = datetime.fromisoformat(attempt.started_at) if attempt.started_at else now
    return attempt.model_copy(
        update={
            "host": platform.node(),
            "started_at": started.isoformat(),
            "finished_at": now.isoformat(),
            "seconds": round((now - started).total_seconds(), 3),
        }
    )
