"""How a model is executed best on this machine, remembered at `<use case>/execution/<model>/<machine>.json`."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from nightshift.core.execution import Execution
from nightshift.errors import ArtifactCorrupt
from nightshift.io.artifact_store import ArtifactStore


class RememberedExecution(BaseModel):
    """What was found for one model on one machine: the settings, and how many times as fast as the default they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    execution: Execution
    gained: float


@cache
def machine_id() -> str:
    """Names what decides which settings are fastest: processor, number of cores, system, onnxruntime. 16 hex digits."""
    processor = Path("/proc/cpuinfo")
    lines = processor.read_text(encoding="utf-8", errors="replace").splitlines() if processor.exists() else []
    models = sorted({line for line in lines if line.startswith(("model name", "CPU part", "flags", "Features"))})
    parts = [platform.system(), platform.machine(), str(os.cpu_count()), importlib.metadata.version("onnxruntime")]
    return hashlib.sha256("\n".join([*parts, *models]).encode()).hexdigest()[:16]


def remembered_execution(store: ArtifactStore, use_case_name: str, model_sha256: str) -> RememberedExecution | None:
    """What was remembered for the model (by the SHA-256 of its graph) on this machine, or None.

    Raises ArtifactCorrupt if something else is stored there.
    """
    key = _key(use_case_name, model_sha256)
    body = store.get(key)
    if body is None:
        return None
    try:
        return RememberedExecution.model_validate_json(body)
    except ValidationError as error:
        raise ArtifactCorrupt(f"{store.uri(key)} is no remembered execution; delete it. {error}") from None


def known_execution(store: ArtifactStore, use_case_name: str, model_sha256: str) -> Execution | None:
    """The settings remembered for the model on this machine, or None."""
    remembered = remembered_execution(store, use_case_name, model_sha256)
    return None if remembered is None else remembered.execution


def remember_execution(
    store: ArtifactStore, use_case_name: str, model_sha256: str, execution: Execution, gained: float
) -> None:
    """Remember settings for the model on this machine, in place of earlier ones."""
    remembered = RememberedExecution(execution=execution, gained=gained)
    store.put(_key(use_case_name, model_sha256), remembered.model_dump_json(indent=1).encode())


def _key(use_case_name: str, model_sha256: str) -> str:
    return f"{use_case_name}/execution/{model_sha256}/{machine_id()}.json"
