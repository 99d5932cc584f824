"""How onnxruntime executes a model, found out by measuring, and never at the price of a bit.

Settings that round otherwise are faster now and then, but then scores would depend on the machine
they were made on. So a setting is considered only if all its answers are bit for bit those of
DEFAULT_EXECUTION, for batches of many sizes: onnxruntime splits work by the number of rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pyarrow as pa

from nightshift.core.onnx_model import (
    GRAPH_OPTIMIZATIONS,
    NUMERIC_INPUT,
    Signature,
    ask_in_batches,
    feed_of,
    load_session,
)

Floats = npt.NDArray[np.float64]

BATCH_ROWS = (1024, 4096, 20_000)
LEAST_ROWS, MOST_ROWS = 512, 20_000
SECONDS_PER_RUN = 0.02
REPEATS = 3
LEAST_GAIN = 1.05
"""Measurements of one setting differ by a few percent: less than this is no reason to leave the default."""
COMPARED_SIZES = (1, 7, 60, 150)
"""Rows of the small batches compared. onnxruntime's tree kernels share out work by trees or by rows, changing
over at 50 and at 128 rows (`parallel_N`, `parallel_tree_N` in its tree_ensemble_common.h)."""
BUDGET_SECONDS = 1.0


@dataclass(frozen=True)
class Execution:
    """Settings of a session: `graph_optimization` (a name of GRAPH_OPTIMIZATIONS), threads, how many rows are
    asked for at once, and whether memory comes from onnxruntime's arena."""

    graph_optimization: str = "all"
    threads: int = 1
    batch_rows: int = 20_000
    arena: bool = True

    def to_json(self) -> dict[str, Any]:
        """JSON-safe; `Execution(**to_json())` is it again."""
        return asdict(self)


DEFAULT_EXECUTION = Execution()
"""What is not tuned: onnxruntime's own defaults, on one thread."""


@dataclass(frozen=True)
class Tuning:
    """The fastest settings; `gained`: how many times as many rows per second they answer as the
    default; `measured`: each setting tried, with its rows per second, or that it answers otherwise (None)."""

    execution: Execution
    gained: float
    measured: tuple[tuple[Execution, float | None], ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, for a manifest's metrics."""
        measured = [{**execution.to_json(), "rows_per_second": speed} for execution, speed in self.measured]
        return {**self.execution.to_json(), "gained": self.gained, "measured": measured}


def tune(
    model: bytes,
    signature: Signature,
    rows: pa.Table,
    *,
    most_threads: int,
    budget_seconds: float = BUDGET_SECONDS,
) -> Tuning:
    """Find the fastest execution of a model for batches of rows like these, one setting after the other.

    Coordinate search from DEFAULT_EXECUTION: the best value of each setting is kept while the next one
    is varied. No further setting is begun once `budget_seconds` are over.
    """
    started = time.monotonic()
    session = load_session(model, execution=DEFAULT_EXECUTION)
    feed = _enough(session, feed_of(rows.slice(0, MOST_ROWS), signature))
    expected = [ask_in_batches(session, part, size) for part, size in _comparisons(feed)]
    fastest, default_speed = DEFAULT_EXECUTION, _speed(session, feed, DEFAULT_EXECUTION)
    speeds: dict[Execution, float | None] = {DEFAULT_EXECUTION: default_speed}
    best = default_speed
    for setting, values in _settings(most_threads):
        for value in values:
            tried = replace(fastest, **{setting: value})
            if tried in speeds or time.monotonic() - started > budget_seconds:
                continue
            speeds[tried] = speed = _speed_if_identical(model, feed, tried, expected)
            if speed is not None and speed > best * LEAST_GAIN:
                fastest, best = tried, speed
    if fastest == DEFAULT_EXECUTION:
        return Tuning(fastest, 1.0, tuple(speeds.items()))
    # A gain has to show again, side by side.
    default_speed = max(default_speed, _speed(session, feed, DEFAULT_EXECUTION))
    best = max(best, _speed(load_session(model, execution=fastest), feed, fastest))
    if best < default_speed * LEAST_GAIN:
        return Tuning(DEFAULT_EXECUTION, 1.0, tuple(speeds.items()))
    return Tuning(fastest, best / default_speed, tuple(speeds.items()))


def _settings(most_threads: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    yield "batch_rows", BATCH_ROWS
    yield "threads", tuple(sorted({2**n for n in range(8) if 2**n <= most_threads} | {most_threads}))
    yield "graph_optimization", tuple(GRAPH_OPTIMIZATIONS)
    yield "arena", (True, False)


def _enough(session: ort.InferenceSession, feed: dict[str, Any]) -> dict[str, Any]:
    """As many of the rows as are answered in about SECONDS_PER_RUN, repeated if there are not as many."""
    known = len(feed[NUMERIC_INPUT])
    few = {name: values[:LEAST_ROWS] for name, values in feed.items()}
    started = time.perf_counter()
    ask_in_batches(session, few, LEAST_ROWS)
    per_row = (time.perf_counter() - started) / min(known, LEAST_ROWS)
    wanted = int(np.clip(SECONDS_PER_RUN / per_row, LEAST_ROWS, MOST_ROWS))
    positions = np.arange(wanted) % known
    return {name: values[positions] for name, values in feed.items()}


def _comparisons(feed: dict[str, Any]) -> Iterator[tuple[dict[str, Any], int]]:
    """Parts of the rows, and how many at a time they are asked for."""
    yield feed, len(feed[NUMERIC_INPUT])
    for size in COMPARED_SIZES:
        yield {name: values[: 3 * size] for name, values in feed.items()}, size


def _speed_if_identical(
    model: bytes, feed: dict[str, Any], execution: Execution, expected: list[Floats]
) -> float | None:
    session = load_session(model, execution=execution)
    for (part, size), bits in zip(_comparisons(feed), expected, strict=True):
        if ask_in_batches(session, part, min(size, execution.batch_rows)).tobytes() != bits.tobytes():
            return None
    return _speed(session, feed, execution)


def _speed(session: ort.InferenceSession, feed: dict[str, Any], execution: Execution) -> float:
    """Rows per second, best of a few runs: of processor time on one thread, of wall clock on several.

    Neighbours on the same cores then cannot make one setting of a single thread look better than another,
    and several threads are only found faster where they have cores of their own.
    """
    clock = time.thread_time if execution.threads == 1 else time.perf_counter
    seconds = []
    for _ in range(REPEATS):
        started = clock()
        ask_in_batches(session, feed, execution.batch_rows)
        seconds.append(clock() - started)
    return len(feed[NUMERIC_INPUT]) / max(min(seconds), 1e-9)
