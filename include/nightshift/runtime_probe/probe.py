"""Load a model, score rows and measure costs, with the standard library, numpy and onnxruntime only.

    python -I probe.py OPTIONS

OPTIONS is one JSON object:

    model           path of the ONNX graph
    inputs          folder of `<input name>.npy`, each with the same number of rows, without pickled objects: strings
                    as numpy's fixed-width unicode
    answers         path of the scores to write: float64 .npy [rows]
    memory_mb       private memory (MiB) that the process may take
    cost_rows       measure on this many of the first rows only (null: all)
    batch_rows, single_rows, batch_repeats: see `costs`

The report goes to standard output as one line of JSON. Errors of the model are in it as `error` and `error_type`; a
process that is killed writes no line.

It is run by the Python of an environment with these packages only, like that of a service that only serves
models. `nightshift.core.search.measurement` measures with the same functions.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    Feed = dict[str, npt.NDArray[Any]]

OUTPUT = "probability"
FOREIGN = ("nightshift", "pandas", "pyarrow", "sklearn", "xgboost", "onnx", "skl2onnx", "scipy")
"""Packages that an environment that only serves models must not have."""

MIB = 1024 * 1024
SINGLE_ROUNDS = 3


def main() -> None:
    """Run the probe with the options in sys.argv[1] and print the report."""
    options = SimpleNamespace(**json.loads(sys.argv[1]))
    bytes_allowed = int(options.memory_mb * MIB)
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_allowed, bytes_allowed))
    measured: dict[str, float] = {}
    report: dict[str, object] = {
        "costs": measured,
        "python": platform.python_version(),
        "importable": [name for name in FOREIGN if importlib.util.find_spec(name) is not None],
    }
    try:
        examine(options, report, measured)
    except (Exception, MemoryError) as error:  # noqa: BLE001 - this is the boundary: the report names it
        report |= {"error": str(error)[:2000], "error_type": type(error).__name__}
    measured["peak_memory_mb"] = peak_memory_mb()
    sys.stdout.write(json.dumps(report) + "\n")


def examine(options: SimpleNamespace, report: dict[str, object], measured: dict[str, float]) -> None:
    """Score all rows, then measure; results are added to `report` and `measured` as soon as they are known."""
    import numpy as np
    import onnxruntime as ort

    report |= {"onnxruntime": ort.__version__, "numpy": np.__version__}
    started = time.perf_counter()
    session = load(Path(options.model).read_bytes())
    measured["load_ms"] = (time.perf_counter() - started) * 1000
    scores = []
    rows: Feed | None = None
    for feed in batches(Path(options.inputs), options.batch_rows):
        (output,) = session.run([OUTPUT], feed)
        scores.append(np.asarray(output, dtype=np.float64).reshape(-1))
        rows = rows or feed
    np.save(options.answers, np.concatenate(scores), allow_pickle=False)
    if rows is not None and options.single_rows:
        measured |= costs(
            lambda feed: session.run([OUTPUT], feed),
            {name: values[: options.cost_rows] for name, values in rows.items()},
            batch_rows=options.batch_rows,
            single_rows=options.single_rows,
            batch_repeats=options.batch_repeats,
        )


def load(model: bytes) -> Any:
    """A session on one thread of the CPU."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def batches(folder: Path, rows: int) -> Iterator[Feed]:
    """The inputs of the folder, at most `rows` rows at a time; strings as Python objects."""
    import numpy as np

    # Mapped for dtype and offset only: pages read through a mapping would count as memory of the model.
    mapped = {path: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    for start in range(0, min(map(len, mapped.values())), rows):
        feed = {}
        for path, matrix in mapped.items():
            part, offset = matrix[start : start + rows], matrix.offset + start * matrix.strides[0]
            values = np.fromfile(path, dtype=part.dtype, count=part.size, offset=offset).reshape(part.shape)
            feed[path.stem] = values.astype(object) if part.dtype.kind == "U" else values
        yield feed


def costs(
    score: Callable[[Feed], object], rows: Feed, *, batch_rows: int, single_rows: int, batch_repeats: int
) -> dict[str, float]:
    """Costs of scoring, without the preparation of the matrices `rows` (inputs by name).

    `rows_per_second` is rows per second of processor time (best of a few batches of `batch_rows`): other
    tasks on the same cores change wall-clock numbers of a model by a factor of ten, but hardly
    these. `single_row_p50_ms` and `single_row_p99_ms` are wall-clock milliseconds for one row, the minimum
    over SINGLE_ROUNDS rounds of `single_rows` rows, which excludes delays by other processes on the same cores.
    """
    import numpy as np

    count = len(next(iter(rows.values())))
    batch = {name: values[np.arange(batch_rows) % count] for name, values in rows.items()}
    seconds = [_seconds(time.process_time, partial(score, batch)) for _ in range(batch_repeats)]
    singles = [{name: values[i % count : i % count + 1] for name, values in rows.items()} for i in range(single_rows)]
    rounds = [
        [_seconds(time.perf_counter, partial(score, row)) * 1000 for row in singles] for _ in range(SINGLE_ROUNDS)
    ]
    return {
        "rows_per_second": batch_rows / min(seconds),
        "single_row_p50_ms": min(float(np.percentile(single_ms, 50)) for single_ms in rounds),
        "single_row_p99_ms": min(float(np.percentile(single_ms, 99)) for single_ms in rounds),
    }


def peak_memory_mb() -> float:
    """The most memory this process has held at once, in MiB (resident set)."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux it is at least the memory of the process that started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes, others in KiB.
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def _seconds(clock: Callable[[], float], action: Callable[[], object]) -> float:
    start = clock()
    action()
    return max(clock() - start, 1e-9)


if __name__ == "__main__":
    main()
