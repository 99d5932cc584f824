"""A small training set with a known law, missing values and categories, and a use case that fits on it in seconds."""

from __future__ import annotations

from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.training_split import TrainingSplit, split_training_set
from nightshift.declare.features import FeatureSet, FeatureTable
from nightshift.declare.feeds import Column
from nightshift.declare.models import ModelSpec
from nightshift.declare.policies import CompressionBudget, TrainingPolicy
from nightshift.declare.use_case import UseCase

NUMERIC = ("rate", "wind", "pressure", "constant", "never_known")
CATEGORICAL = ("carrier", "plane")
SIGNATURE = Signature(numeric=NUMERIC, categorical=CATEGORICAL, feature_service="toy_v1", score="p_late")
FIRST = date(2020, 1, 1)
DAYS, HOLDOUT_DAYS = 20, 5


def use_case(**training: Any) -> UseCase:
    """A use case over these columns, with fast training."""
    nowhere = Path("nowhere")
    policy: dict[str, Any] = {
        "holdout_days": HOLDOUT_DAYS,
        "seed": 7,
        "parameters": {
            "xgboost": {"n_estimators": 25, "max_depth": 3, "learning_rate": 0.2},
            "distilled_xgboost": {"n_estimators": 10, "max_depth": 3, "learning_rate": 0.3},
            "distilled_mlp": {"hidden_layer_sizes": (16, 8), "max_iter": 30, "batch_size": 128},
        },
    }
    return UseCase(
        name="toy",
        title="Toys that are late",
        owner="nobody",
        folder=nowhere,
        timezone="UTC",
        cutoff_time=time(3),
        first_partition=FIRST,
        feeds=(),
        features=FeatureSet(
            prelude=nowhere,
            tables=(FeatureTable("toy", ("toy",), nowhere, numeric=NUMERIC, categorical=CATEGORICAL),),
            lookback_days=7,
            service="toy_v1",
        ),
        training_spine=nowhere,
        scoring_spine=nowhere,
        label="is_late",
        score="p_late",
        decision_threshold=0.5,
        prediction_key=(Column("flight_date", "date"), Column("flight", "int64")),
        prediction_extra=(),
        prediction_date="flight_date",
        champion=ModelSpec(name="champion", estimators=("xgboost",), parameters=policy["parameters"], seed=7),
        fallback=ModelSpec(name="fallback", estimators=("logistic_regression",), numeric=("rate",)),
        compression=CompressionBudget(largest_auc_loss=0.05, largest_log_loss_increase=0.05, objective="bytes"),
        training=TrainingPolicy(**(policy | training)),
    )


def training_table(rows_per_day: int = 150, seed: int = 0) -> pa.Table:
    """Late depends on the rate, on wind beyond 20 where pressure is missing, and on carrier ZZ."""
    rng = np.random.default_rng(seed)
    rows = DAYS * rows_per_day
    day = np.repeat(np.arange(DAYS), rows_per_day)
    rate, wind = rng.uniform(0, 1, rows), rng.gamma(2, 8, rows)
    pressure_missing = rng.random(rows) < 0.2
    carrier = rng.choice(["AA", "BB", "ZZ"], rows, p=[0.5, 0.3, 0.2])
    log_odds = 4 * (rate - 0.6) + 1.5 * ((wind > 20) & pressure_missing) + 1.2 * (carrier == "ZZ")
    late = rng.random(rows) < 1 / (1 + np.exp(-log_odds))
    dates = [FIRST + timedelta(days=int(d)) for d in day]
    split = np.where(day >= DAYS - HOLDOUT_DAYS, "holdout", "train")
    plane = [f"N{n}" if n < 90 else None for n in rng.integers(0, 100, rows)]
    return pa.table(
        {
            "flight_date": pa.array([d + timedelta(days=1) for d in dates], pa.date32()),
            "flight": pa.array(np.tile(np.arange(rows_per_day), DAYS), pa.int64()),
            "partition": pa.array(dates, pa.date32()),
            KNOWN_ON: pa.array([d + timedelta(days=1) for d in dates], pa.date32()),
            "rate": pa.array(rate),
            "wind": pa.array(wind),
            "pressure": pa.array(rng.normal(1013, 8, rows), mask=pressure_missing),
            "constant": pa.array(np.full(rows, 3.0)),
            "never_known": pa.nulls(rows, pa.float64()),
            "carrier": pa.array(carrier),
            "plane": pa.array(plane, pa.string()),
            "is_late": pa.array(late.astype(np.int64)),
            "split": pa.array(split),
        }
    )


def training_split(**arguments: Any) -> TrainingSplit:
    """The table, split."""
    return split_training_set(training_table(**arguments), "is_late")
