"""Clean environments with one onnxruntime and numpy each, and scoring with a model in a process of one of them.

They are built by `make runtimes` from config/runtimes/onnxruntime-<version>.txt.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nightshift.artifact import Value
from nightshift.core.gates.registry import TOO_SLOW, RuntimeResult
from nightshift.declare.discovery import PROJECT_ROOT
from nightshift.errors import ConfigurationError
from nightshift.runtime_probe import probe

RUNTIMES_VARIABLE = "NIGHTSHIFT_RUNTIMES_DIR"
LEAST_SPARE_MB = 512.0
"""The memory limit of a process is twice the declared one, and at least this much above it: below the limit its use
is measured and reported."""
OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate memory", "Cannot allocate memory")
START_SECONDS = 60.0
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""The whole environment of a clean process. Without it, linear algebra starts a thread per core, each with memory of
its own, which on a large machine alone exceeds the memory that a model may take."""
BUILD = "Build it with `make runtimes`"


class ProbeReport(Value):
    """The line that the probe prints; see `runtime_probe.probe`."""

    python: str = ""
    importable: tuple[str, ...] = ()
    onnxruntime: str = ""
    numpy: str = ""
    costs: Mapping[str, float] = Field(default_factory=dict)
    error: str = ""
    error_type: str = ""


def runtimes_folder() -> Path:
    """Where the environments are: NIGHTSHIFT_RUNTIMES_DIR, or `.runtimes` in the project."""
    return Path(os.environ.get(RUNTIMES_VARIABLE) or PROJECT_ROOT / ".runtimes")


def require_runtimes(versions: Sequence[str]) -> None:
    """Raise ConfigurationError if no versions are named or one of them has no environment."""
    if not versions:
        raise ConfigurationError(
            "NS-GATE-004",
            "No onnxruntime_versions are declared, so no model can be verified; name at least one in the use case's "
            "verification policy.",
        )
    if missing := [version for version in versions if not _python(version).exists()]:
        raise ConfigurationError(
            "NS-GATE-005",
            f"There is no clean environment with onnxruntime {', '.join(missing)} in {runtimes_folder()}. {BUILD} "
            f"(from config/runtimes/onnxruntime-<version>.txt), or set {RUNTIMES_VARIABLE}.",
        )


@contextmanager
def probe_inputs(feed: Mapping[str, npt.NDArray[Any]]) -> Iterator[Path]:
    """A temporary folder with the matrices (inputs by name) as the probe reads them; strings as fixed-width unicode."""
    with tempfile.TemporaryDirectory(prefix="nightshift-probe-") as folder:
        for name, values in feed.items():
            plain = values.astype(np.str_) if values.dtype == object else np.ascontiguousarray(values)
            np.save(Path(folder) / f"{name}.npy", plain, allow_pickle=False)
        yield Path(folder)


def score_in_runtime(
    version: str,
    model: bytes,
    inputs: Path,
    *,
    batch_rows: int,
    memory_mb: float,
    seconds: float,
    single_rows: int = 200,
    batch_repeats: int = 7,
    cost_rows: int | None = None,
) -> RuntimeResult:
    """Score all rows of `probe_inputs` in a new process that has one onnxruntime and none of this project's packages.

    Costs are measured on the first `cost_rows` rows (all, if None). The limits are `seconds` beyond the start of the
    process and about twice `memory_mb` (MiB). Errors of the model are part of the result. Raises
    ConfigurationError if the environment is missing, is not clean, or has another onnxruntime.
    """
    require_runtimes([version])
    with tempfile.TemporaryDirectory(prefix="nightshift-probe-") as folder:
        path, scores_path = Path(folder) / "model.onnx", Path(folder) / "answers.npy"
        path.write_bytes(model)
        options = {
            "model": str(path),
            "inputs": str(inputs),
            "answers": str(scores_path),
            "memory_mb": memory_mb + max(memory_mb, LEAST_SPARE_MB),
            "cost_rows": cost_rows,
            "batch_rows": batch_rows,
            "single_rows": single_rows,
            "batch_repeats": batch_repeats,
        }
        command = [str(_python(version)), "-I", probe.__file__, json.dumps(options)]
        try:
            process = subprocess.run(
                command, capture_output=True, text=True, timeout=START_SECONDS + seconds, env=ONE_THREAD, check=False
            )
        except subprocess.TimeoutExpired:
            return RuntimeResult(version, None, {}, TOO_SLOW)
        report = _report(version, process)
        if not (error := report.error):
            return RuntimeResult(version, np.load(scores_path, allow_pickle=False), report.costs)
        out_of_memory = report.error_type == "MemoryError" or any(text in error for text in OUT_OF_MEMORY)
        message = f"{report.error_type}: {' '.join(error.split())[:300]}"
        return RuntimeResult(version, None, report.costs, message, out_of_memory=out_of_memory)


def _report(version: str, process: subprocess.CompletedProcess[str]) -> ProbeReport:
    """The probe's report; if the process wrote none, its exit status as an error. Raises as `score_in_runtime` does."""
    lines = process.stdout.strip().splitlines()
    if process.returncode != 0 or not lines:
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        error = process.stderr[-500:] or "it left no message"
        return ProbeReport(error_type=f"the process ended with {how}", error=error)
    report = ProbeReport.model_validate_json(lines[-1])
    where = runtimes_folder() / f"onnxruntime-{version}"
    if report.importable:
        raise ConfigurationError(
            "NS-GATE-006",
            f"{where} must have onnxruntime and numpy only, but {', '.join(report.importable)} can be imported "
            f"there. Remove the folder. {BUILD}.",
        )
    if report.error_type == "ModuleNotFoundError" or report.onnxruntime not in ("", version):
        installed = report.onnxruntime or report.error
        raise ConfigurationError(
            "NS-GATE-007", f"{where} does not have onnxruntime {version}: {installed}. Remove it. {BUILD}."
        )
    return report


def _python(version: str) -> Path:
    return runtimes_folder() / f"onnxruntime-{version}" / "bin" / "python"
