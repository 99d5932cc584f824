"""Four models of real flights that must not serve, each with what its gate says, beside one that may.

    python benchmarks/refusals.py [--days 150] [--training-set FILE]

A broken export (missing values sent down the other branch of every split), a leaky model (it sees the departure
delay of the flight it predicts), a model that learned one airline the wrong way round, and a slow one (thousands
of trees). The training set is that of benchmarks/compression.py; the gates and their bounds are the use case's own.
Nothing is read from or written to a store.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from compression import build_training_set

from flight_delay.replay import data_folder
from nightshift.core.estimators import DEFAULTS, FittedModel, fit_estimator, hyperparameters
from nightshift.core.execution import DEFAULT_EXECUTION
from nightshift.core.onnx_export import export_onnx
from nightshift.core.onnx_model import Signature
from nightshift.core.slices import slices_gate
from nightshift.core.training_split import PARTITION, TrainingSplit, split_training_set
from nightshift.core.verification import Subject
from nightshift.deployment import GateResult
from nightshift.steps.train.verify import Tuned, judge
from nightshift.usecase import UseCase, load_use_case

LEAK = "dep_delay"
AIRLINE = "B6"
SLOW_TREES = 4000
SLOW_ROWS = 15_000


def fit(use_case: UseCase, split: TrainingSplit, signature: Signature, **changed: Any) -> FittedModel:
    policy = use_case.training
    parameters = hyperparameters("xgboost", DEFAULTS, policy.parameters, split.train.num_rows) | changed
    return fit_estimator("xgboost", split.train, split.train_labels, signature, parameters, seed=policy.seed, threads=2)


def verdicts(
    use_case: UseCase, fitted: FittedModel, split: TrainingSplit, model: bytes | None = None
) -> list[GateResult]:
    subject = Subject(use_case, "xgboost", model or export_onnx(fitted), fitted.signature, fitted, split)
    return judge(subject, lambda: Tuned(DEFAULT_EXECUTION, {}), lambda: fitted.probability(split.holdout)).gates


def broken(fitted: FittedModel) -> bytes:
    model = onnx.ModelProto.FromString(export_onnx(fitted))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_missing_value_tracks_true":
                attribute.ints[:] = [1 - route for route in attribute.ints]
    return bytes(model.SerializeToString())


def with_leak(table: pa.Table) -> pa.Table:
    """The training set with the departure delay of each flight, in minutes, as one more column."""
    flights = pd.read_csv(data_folder() / "flights.csv.zip")
    flights["flight_date"] = pd.to_datetime(flights[["year", "month", "day"]]).dt.date
    key = ["flight_date", "carrier", "flight", "origin"]
    leak = pa.Table.from_pandas(flights[[*key, LEAK]], preserve_index=False)
    leak = leak.cast(pa.schema([*(table.schema.field(name) for name in key), pa.field(LEAK, pa.float64())]))
    ordered = table.append_column("position", pa.array(np.arange(table.num_rows)))
    return ordered.join(leak, keys=key, join_type="left outer").sort_by("position").drop_columns(["position"])


def with_reversed_labels(split: TrainingSplit, airline: str) -> TrainingSplit:
    labels = split.train_labels.copy()
    rows = np.flatnonzero(pc.equal(split.train["carrier"], airline).to_numpy())
    labels[rows] = 1 - labels[rows]
    position = split.train.column_names.index(split.label)
    train = split.train.set_column(position, split.label, pa.array(labels))
    return dataclasses.replace(split, train=train)


def show(name: str, gates: list[GateResult]) -> None:
    failed = [gate for gate in gates if gate.verdict == "fail"]
    print(f"\n{name}: {'refused by ' + ', '.join(gate.gate for gate in failed) if failed else 'passes'}")
    for gate in failed:
        print(f"  {gate.gate}: {gate.reason[:400]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=150)
    parser.add_argument("--training-set", type=Path)
    arguments = parser.parse_args()
    use_case = load_use_case("flight_delay")
    path: Path | None = arguments.training_set
    table = pq.read_table(path) if path and path.exists() else build_training_set(use_case, arguments.days)
    declared = use_case.features
    signature = Signature(
        numeric=declared.numeric, categorical=declared.categorical, feature_service=declared.service, score="p"
    )
    split = split_training_set(table, use_case.label)
    honest = fit(use_case, split, signature)
    show("xgboost as it is", verdicts(use_case, honest, split))
    show("broken export", verdicts(use_case, honest, split, broken(honest)))

    leaky = signature.model_copy(update={"numeric": (*signature.numeric, LEAK)})
    seen = split_training_set(with_leak(table), use_case.label)
    fitted = fit(use_case, seen, leaky)
    show("leaky, the feature not declared", verdicts(use_case, fitted, seen))
    features = dataclasses.replace(declared, numeric=leaky.numeric)
    show("leaky, the feature declared", verdicts(dataclasses.replace(use_case, features=features), fitted, seen))

    wronged = fit(use_case, with_reversed_labels(split, AIRLINE), signature)
    scores = [model.probability(split.holdout) for model in (wronged, honest)]
    days = split.holdout[PARTITION].to_numpy()
    policy, seed = use_case.slices, use_case.training.seed
    show(f"wrong about {AIRLINE}", [slices_gate(*scores, split.holdout_labels, split.holdout, days, policy, seed)])

    few = dataclasses.replace(split, train=split.train.slice(0, SLOW_ROWS))
    slow = fit(use_case, few, signature, n_estimators=SLOW_TREES, max_depth=6, min_child_weight=1, learning_rate=0.002)
    show(f"slow, {SLOW_TREES} trees", verdicts(use_case, slow, split))


if __name__ == "__main__":
    main()
