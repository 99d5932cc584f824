"""Verifying one candidate on many rows: seconds, and seconds of each part.

    python benchmarks/verification.py [--rows 100000] [--days 100] [--training-set FILE]

The candidate is the use case's XGBoost model; its holdout rows are the training set's holdout rows, then training
rows, until there are enough. The training set is that of benchmarks/compression.py. Nothing is read from or written
to a store.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.core.estimators import DEFAULTS, fit_estimator, hyperparameters
from nightshift.core.execution import tune
from nightshift.core.onnx_export import export_onnx
from nightshift.core.onnx_model import Signature
from nightshift.core.training_split import TrainingSplit, split_training_set
from nightshift.core.verification import Subject
from nightshift.steps.train.verify import Judged, Tuned, judge
from nightshift.usecase import UseCase, load_use_case


def widened(split: TrainingSplit, rows: int) -> TrainingSplit:
    """The split with this many holdout rows, the further ones being training rows."""
    everything = pa.concat_tables([split.holdout, split.train])
    return TrainingSplit(split.train, everything.take(pa.array(np.arange(rows) % everything.num_rows)), split.label)


def subject_of(use_case: UseCase, table: pa.Table, rows: int) -> Subject:
    declared, policy = use_case.features, use_case.training
    signature = Signature(
        numeric=declared.numeric, categorical=declared.categorical, feature_service=declared.service, score="p"
    )
    split = split_training_set(table, use_case.label)
    parameters = hyperparameters("xgboost", DEFAULTS, policy.parameters, split.train.num_rows)
    fitted = fit_estimator(
        "xgboost", split.train, split.train_labels, signature, parameters, seed=policy.seed, threads=2
    )
    return Subject(use_case, "xgboost", export_onnx(fitted), signature, fitted, widened(split, rows))


def verified(subject: Subject) -> tuple[float, float, Judged]:
    """Seconds, processor seconds of this process, and the verdicts."""

    def tuned() -> Tuned:
        tuning = tune(subject.model, subject.signature, subject.split.holdout, most_threads=2)
        return Tuned(tuning.execution, tuning.to_json())

    started, used = time.perf_counter(), time.process_time()
    judged = judge(subject, tuned, lambda: subject.fitted.probability(subject.split.holdout))
    return time.perf_counter() - started, time.process_time() - used, judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--training-set", type=Path)
    arguments = parser.parse_args()
    use_case = load_use_case("flight_delay")
    path: Path | None = arguments.training_set
    if path and path.exists():
        table = pq.read_table(path)
    else:
        from compression import build_training_set

        table = build_training_set(use_case, arguments.days)
    seconds, used, judged = verified(subject_of(use_case, table, arguments.rows))
    parity = judged.verification["parity"]
    print(f"{arguments.rows} rows and {parity['probes'] - arguments.rows} strange ones; {parity['splits']}")
    print(f"verified in {seconds:.1f} s ({used:.1f} s of processor time without the clean processes)")
    for part, took in sorted(judged.metrics["seconds"].items(), key=lambda item: -item[1]):
        print(f"  {part:<15} {took:5.2f} s")
    for result in judged.gates:
        print(f"  {result.gate:<15} {result.verdict:<15} {result.reason[:110]}")
    execution = judged.metrics["execution"]
    print({name: value for name, value in execution.items() if name != "measured"})


if __name__ == "__main__":
    main()
