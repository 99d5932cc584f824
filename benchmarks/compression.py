"""Candidates of one training on real flights: quality, size and speed, against the teacher in XGBoost itself.

    python benchmarks/compression.py [--days 100] [--training-set FILE]

The training set is computed from the replayed deliveries by the flight_delay use case's own SQL, without any
service, and written to FILE; a FILE that is there is read instead. Rows per second are of one core, the
teacher's own prediction included, in the same run: read the ratios.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flight_delay import replay
from nightshift.core.candidates import ESTIMATORS, QUANTIZED_FROM, STUDENTS
from nightshift.core.curated_table import curate, published_columns
from nightshift.core.feature_computation import compute_features, compute_spine
from nightshift.core.landed_table import read_landed
from nightshift.core.onnx_model import Signature
from nightshift.core.point_in_time import FeatureRows, point_in_time_join
from nightshift.core.training_rows import of_partitions, with_split
from nightshift.usecase import UseCase, load_use_case, partition_range

Feeds = dict[str, list[pa.Table]]
PREDICTION_REPEATS = 3


def curated_feeds(use_case: UseCase, partitions: list[date]) -> dict[str, pa.Table]:
    """Every feed as it is published, with `delivered_on`, without the expectations' quarantine."""
    found: Feeds = defaultdict(list)
    for partition in partitions:
        landed: Feeds = defaultdict(list)
        for name, _, file_name, body in replay.deliveries(partition):
            landed[name].append(read_landed(use_case.feed(name), file_name, body).rows)
        for name, tables in landed.items():
            rows = published_columns(use_case.feed(name), curate(use_case.feed(name), pa.concat_tables(tables)).rows)
            stamp = pa.array([partition] * rows.num_rows, pa.date32())
            found[name].append(rows.append_column("delivered_on", stamp))
    return {name: pa.concat_tables(tables) for name, tables in found.items()}


def features_of(partitions: list[date]) -> list[dict[str, pa.Table]]:
    """Feature tables of a run of partitions; a process of its own, DuckDB being held to one thread."""
    use_case = load_use_case("flight_delay")
    lookback = timedelta(days=use_case.features.lookback_days)
    first = max(use_case.first_partition, partitions[0] - lookback)
    feeds = curated_feeds(use_case, sorted({use_case.first_partition, *partition_range(first, partitions[-1])}))
    found = []
    for partition in partitions:
        seen = {
            name: table
            if use_case.feed(name).cadence == "snapshot"
            else table.filter(_between(table["delivered_on"], partition - lookback, partition))
            for name, table in feeds.items()
        }
        cutoff = use_case.cutoff(partition)
        found.append(compute_features(use_case.features, seen, partition=partition, cutoff=cutoff))
    return found


def _between(days: pa.ChunkedArray, first: date, last: date) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(days, pa.scalar(first)), pc.less_equal(days, pa.scalar(last)))


def build_training_set(use_case: UseCase, days: int) -> pa.Table:
    """The training set of partition `first + days - 1`."""
    partitions = partition_range(use_case.first_partition, use_case.first_partition + timedelta(days=days - 1))
    halves = [partitions[: days // 2], partitions[days // 2 :]]
    with ProcessPoolExecutor(2) as pool:
        tables = [tables for half in pool.map(features_of, halves) for tables in half]
    key = tuple(column.name for column in use_case.prediction_key)
    spine = compute_spine(
        use_case.training_spine,
        curated_feeds(use_case, partitions),
        partition=partitions[-1],
        cutoff=use_case.cutoff,
        key=key,
    )
    policy = use_case.training
    known = of_partitions(spine, set(partitions[:-1]))
    rows = with_split(known, holdout_days=policy.holdout_days, minimum_days=policy.minimum_days)
    views = []
    for table in use_case.features.tables:
        view = pa.concat_tables([found[table.name] for found in tables])
        columns = [c for c in view.column_names if c not in (*table.join_keys, "event_timestamp")]
        keys = {name: name for name in table.join_keys}
        views.append(FeatureRows(view, keys, {name: name for name in columns}, timestamp="event_timestamp"))
    return point_in_time_join(rows, "event_timestamp", views)


def lines(use_case: UseCase, table: pa.Table) -> Iterator[str]:
    """The report, line by line, as it is measured."""
    from nightshift.core import distillation, estimators
    from nightshift.core.evaluation import evaluate
    from nightshift.core.measurement import BATCH_ROWS, measure
    from nightshift.core.onnx_export import export_onnx
    from nightshift.core.onnx_model import load_session, score
    from nightshift.core.preprocessing import feature_frame
    from nightshift.core.quantization import quantize_int8
    from nightshift.core.training_split import split_training_set

    declared = use_case.features
    signature = Signature(
        numeric=declared.numeric, categorical=declared.categorical, feature_service=declared.service, score="p"
    )
    split = split_training_set(table, use_case.label)
    policy = use_case.training
    yield f"{split.train.num_rows} training rows, {split.holdout.num_rows} holdout rows"

    fitted = {}
    for name in ESTIMATORS:
        parameters = estimators.hyperparameters(name, estimators.DEFAULTS, policy.parameters, split.train.num_rows)
        start = time.perf_counter()
        fitted[name] = estimators.fit_estimator(
            name, split.train, split.train_labels, signature, parameters, seed=policy.seed, threads=2
        )
        yield f"fitted {name} in {time.perf_counter() - start:.1f} s"
    teacher = fitted["xgboost"]
    soft = teacher.probability(split.train)
    for name in STUDENTS:
        parameters = estimators.hyperparameters(name, distillation.DEFAULTS, policy.parameters, split.train.num_rows)
        start = time.perf_counter()
        fitted[name] = distillation.fit_student(
            name, split.train, soft, signature, parameters, seed=policy.seed, threads=2
        )
        yield f"fitted {name} in {time.perf_counter() - start:.1f} s"

    features = teacher.pipeline[:-1].transform(feature_frame(split.holdout, signature))
    booster = teacher.pipeline[-1].get_booster()
    booster.set_param({"nthread": 1})
    seconds = min(_seconds(lambda: booster.inplace_predict(features)) for _ in range(PREDICTION_REPEATS))
    native = len(features) / seconds
    metrics = evaluate(split.holdout_labels, teacher.probability(split.holdout))
    size = len(booster.save_raw("ubj"))
    yield f"\n{'model':<34} {'AUC':>6} {'log loss':>8} {'KB':>6} {'M rows/s':>8} {'speed':>6} {'row ms':>7}"
    yield _row("xgboost, inplace_predict", metrics, size, native, native, None)

    graphs = {name: export_onnx(model) for name, model in fitted.items()}
    graphs |= {name: quantize_int8(graphs[source]) for name, source in QUANTIZED_FROM.items()}
    for name, graph in graphs.items():
        scores = score(load_session(graph, 1), signature, split.holdout)
        costs = measure(graph, signature, split.holdout)
        speed, latency = costs["rows_per_second"], costs["single_row_p50_ms"]
        metrics = evaluate(split.holdout_labels, scores)
        yield _row(f"{name}, onnxruntime", metrics, len(graph), speed, native, latency)
    yield f"\nspeed: against inplace_predict (without encoding its input) in this run; batches of {BATCH_ROWS} rows."


def _seconds(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def _row(name: str, metrics: dict[str, float], size: int, speed: float, native: float, latency: float | None) -> str:
    shown = "" if latency is None else f"{latency:7.3f}"
    return (
        f"{name:<34} {metrics['auc']:6.4f} {metrics['log_loss']:8.4f} {size / 1000:6.0f} {speed / 1e6:8.3f} "
        f"{speed / native:5.1f}x {shown:>7}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--training-set", type=Path)
    arguments = parser.parse_args()
    use_case = load_use_case("flight_delay")
    path: Path | None = arguments.training_set
    if path is not None and path.exists():
        table = pq.read_table(path)
    else:
        start = time.perf_counter()
        table = build_training_set(use_case, arguments.days)
        print(f"computed a training set of {arguments.days} days in {time.perf_counter() - start:.0f} s")
        if path is not None:
            pq.write_table(table, path, compression="zstd")
    for line in lines(use_case, table):
        print(line, flush=True)


if __name__ == "__main__":
    main()
