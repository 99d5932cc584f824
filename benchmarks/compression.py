"""Every compressed candidate of one training on real flights, against the boosted teacher in XGBoost itself.

    python benchmarks/compression.py [--days 150] [--training-set FILE] [--report FOLDER]

The training set is computed from the replayed deliveries by the flight_delay use case's own SQL, without any
service, and written to FILE; a FILE that is there is read instead. Rows per second are of one core, the
teacher's own prediction included, in the same run: read the ratios. FOLDER gets the Pareto report.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flight_delay import replay
from nightshift.core.candidate_record import CandidateRecord
from nightshift.core.candidates import ESTIMATORS, RECIPES, STUDENTS
from nightshift.core.curated_table import curate, published_columns
from nightshift.core.estimators import FittedModel
from nightshift.core.evaluation import evaluate
from nightshift.core.feature_computation import compute_features, compute_spine
from nightshift.core.landed_table import read_landed
from nightshift.core.measurement import measure, measure_native
from nightshift.core.onnx_export import export_onnx
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.core.point_in_time import FeatureRows, point_in_time_join
from nightshift.core.training_rows import of_partitions, with_split
from nightshift.core.training_split import TrainingSplit, split_training_set
from nightshift.usecase import UseCase, load_use_case, partition_range

Feeds = dict[str, list[pa.Table]]
MEASUREMENTS = 4
"""The fastest of so many counts: other work on the machine only ever slows a measurement down."""

LARGEST_AUC_LOSS = 0.002
FASTER, SMALLER = 10, 20


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


def lines(use_case: UseCase, table: pa.Table, report: Path | None) -> Iterator[str]:
    """The report, line by line, as it is measured."""
    from nightshift.core import estimators
    from nightshift.core.compression.problem import Problem
    from nightshift.core.compression.techniques import TECHNIQUES, apply
    from nightshift.core.model_selection import select_model
    from nightshift.core.pareto_report import render
    from nightshift.errors import NotApplicable

    declared, policy = use_case.features, use_case.training
    signature = Signature(
        numeric=declared.numeric, categorical=declared.categorical, feature_service=declared.service, score="p"
    )
    split = split_training_set(table, use_case.label)
    yield f"{split.train.num_rows} training rows, {split.holdout.num_rows} holdout rows"
    fitted, seconds, absent = {}, {}, {}
    for name in ESTIMATORS:
        parameters = estimators.hyperparameters(name, estimators.DEFAULTS, policy.parameters, split.train.num_rows)
        start = time.process_time()
        fitted[name] = estimators.fit_estimator(
            name, split.train, split.train_labels, signature, parameters, seed=policy.seed, threads=2
        )
        seconds[name] = time.process_time() - start

    def problem(teachers: list[FittedModel]) -> Problem:
        return Problem.of(split, teachers, seed=policy.seed, threads=2, parameters=policy.parameters)

    teachers = [fitted[name] for name in ESTIMATORS]
    for name in (*STUDENTS, *RECIPES):
        start = time.process_time()
        try:
            if name in STUDENTS:
                fitted[name] = TECHNIQUES[name](teachers[0], problem(teachers))
            else:
                source = fitted[RECIPES[name].source]
                fitted[name] = apply(RECIPES[name].techniques, source, problem([source]))
        except NotApplicable as error:
            absent[name] = str(error)
        seconds[name] = time.process_time() - start

    native = max(
        (measure_native(fitted["xgboost"], split.holdout) for _ in range(MEASUREMENTS)),
        key=lambda costs: costs["native_rows_per_second"],
    )
    records = [_record(name, model, split) for name, model in fitted.items()]
    records += [
        CandidateRecord.from_verification({"candidate": n, "not_applicable": why}, {}) for n, why in absent.items()
    ]
    teacher = next(record for record in records if record.name == "xgboost")
    yield f"\n{'model':<28} {'AUC':>6} {'log loss':>8} {'kB':>6} {'M rows/s':>8} {'faster':>7} {'smaller':>7}  fit s"
    rows_per_second, size = native["native_rows_per_second"], native["native_bytes"]
    quality = f"{teacher.auc:6.4f} {teacher.log_loss:8.4f} {size / 1000:6.1f}"
    yield f"{'xgboost, inplace_predict':<28} {quality} {rows_per_second / 1e6:8.3f} {1:6.1f}x {1:6.1f}x"
    reached = []
    for record in sorted(records, key=lambda record: -record.rows_per_second):
        if record.not_applicable:
            continue
        faster, smaller = record.rows_per_second / rows_per_second, size / record.bytes
        quality = f"{record.auc:6.4f} {record.log_loss:8.4f} {record.bytes / 1000:6.1f}"
        yield (
            f"{record.name:<28} {quality} {record.rows_per_second / 1e6:8.3f} {faster:6.1f}x {smaller:6.1f}x "
            f"{seconds[record.name]:6.1f}"
        )
        if faster >= FASTER and smaller >= SMALLER and teacher.auc - record.auc <= LARGEST_AUC_LOSS:
            reached.append(record.name)
    yield from (f"{name}: not applicable, {why}" for name, why in absent.items())
    selection = select_model(records, ESTIMATORS, use_case.compression)
    yield f"\nchosen within the budget, without any gates: {selection.winner} (against {selection.teacher})"
    yield (
        f"{FASTER}x the throughput and 1/{SMALLER} of the size of XGBoost's inplace_predict (which does not encode its "
        f"input), at most {LARGEST_AUC_LOSS} of AUC lost: reached by {', '.join(reached) or 'none'}"
    )
    yield f"processor time of all fits and techniques: {sum(seconds.values()):.0f} s"
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        files = render(
            records,
            selection.reasons,
            selection.winner,
            selection.teacher,
            use_case.compression,
            title=f"{use_case.title}: candidates",
            native_rows_per_second=rows_per_second,
            native_bytes=size,
        )
        for file_name, body in files.items():
            (report / file_name).write_bytes(body)


def _record(name: str, model: FittedModel, split: TrainingSplit) -> CandidateRecord:
    graph = model.graph or export_onnx(model)
    holdout = evaluate(split.holdout_labels, score(load_session(graph, 1), model.signature, split.holdout))
    measured = [measure(graph, model.signature, split.holdout) for _ in range(MEASUREMENTS)]
    costs = max(measured, key=lambda costs: costs["rows_per_second"])
    return CandidateRecord.from_verification({"candidate": name, "holdout": holdout, "bytes": len(graph)}, costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=150)
    parser.add_argument("--training-set", type=Path)
    parser.add_argument("--report", type=Path)
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
    for line in lines(use_case, table, arguments.report):
        print(line, flush=True)


if __name__ == "__main__":
    main()
