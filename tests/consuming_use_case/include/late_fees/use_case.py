"""For every booking of tomorrow: how likely is it that a late fee is charged?

It reads what late_returns predicts for the same bookings, an hour and a half after that use case's cutoff.
"""

from __future__ import annotations

from datetime import date, time
from pathlib import Path

from nightshift.declare.features import FeatureSet, FeatureTable
from nightshift.declare.feeds import Column, Expectation, Feed
from nightshift.declare.models import ModelSpec
from nightshift.declare.policies import (
    CompressionBudget,
    DataSource,
    DriftPolicy,
    PromotionPolicy,
    TrainingPolicy,
    VerificationPolicy,
)
from nightshift.declare.predictions import Predictions
from nightshift.declare.use_case import UseCase

SQL = Path(__file__).resolve().parent / "sql"

KEY = (
    Column("booking_date", "date", nullable=False),
    Column("booking", "int64", nullable=False),
)
BOOKING = (*KEY, Column("branch", "string", nullable=False))
CHARGED = Column("charged", "int64", nullable=False)
RETURN_SCORE = (*KEY, Column("p_late", "float64", nullable=False))

USE_CASE = UseCase(
    name="late_fees",
    title="Late fees that will be charged",
    owner="cashier",
    folder=SQL.parent,
    timezone="Europe/Vienna",
    cutoff_time=time(6),
    first_partition=date(2020, 3, 17),
    last_partition=date(2020, 4, 30),
    feeds=(
        Feed("bookings", BOOKING, BOOKING, SQL / "bookings.sql", key=("booking_date", "booking")),
        Feed("fees", (*BOOKING, CHARGED), (*BOOKING, CHARGED), SQL / "fees.sql", key=("booking_date", "booking")),
        Feed(
            name="return_scores",
            landed=RETURN_SCORE,
            curated=RETURN_SCORE,
            normalise=SQL / "return_scores.sql",
            key=("booking_date", "booking"),
            expectations=(
                Expectation("expect_table_row_count_to_be_between", {"min_value": 1}, "critical", "no_return_scores"),
            ),
            source=Predictions("late_returns", lag=0),
        ),
    ),
    features=FeatureSet(
        prelude=SQL / "prelude.sql",
        tables=(
            FeatureTable("fee_booking", ("booking_key",), SQL / "booking.sql", numeric=("return_score",)),
            FeatureTable("fee_branch", ("branch",), SQL / "branch_history.sql", numeric=("branch_fee_rate",)),
        ),
        lookback_days=14,
        service="late_fees_v1",
    ),
    training_spine=SQL / "training_spine.sql",
    scoring_spine=SQL / "scoring_spine.sql",
    label="is_charged",
    score="p_fee",
    decision_threshold=0.5,
    prediction_key=KEY,
    prediction_extra=(Column("branch", "string", nullable=False),),
    prediction_date="booking_date",
    compression=CompressionBudget(largest_auc_loss=0.05, largest_log_loss_increase=0.05, objective="bytes"),
    champion=ModelSpec(name="linear", estimators=("logistic_regression",)),
    fallback=ModelSpec(name="fallback", estimators=("logistic_regression",), numeric=("branch_fee_rate",)),
    labels_from=("fees",),
    training=TrainingPolicy(holdout_days=2, minimum_days=5, parity_tolerance=1e-4),
    promotion=PromotionPolicy(backtest_partitions=6, refit_every=2, block_days=2, shadow_partitions=2),
    # Two holdout days of forty rows: bounds as wide as so little data asks for.
    verification=VerificationPolicy(
        largest_single_feature_auc=0.98,
        largest_step_move=0.5,
        largest_flip_share=0.3,
        least_rows_per_second=2_000.0,
        largest_single_row_p99_ms=250.0,
    ),
    sources=(DataSource("made up by replay.py", "Apache-2.0"),),
    drift=DriftPolicy(windows=(1, 7), reference_days=28, recent_days=1, least_reference_days=8),
    tags=("tools",),
)
