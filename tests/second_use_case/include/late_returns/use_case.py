"""For every booking of tomorrow: how likely is the tool to come back late?

Two feeds, two feature views, forty bookings a day, made up by `replay.py`. It shares no line with any
other use case and goes through the same DAGs.
"""

from __future__ import annotations

from datetime import date, time
from pathlib import Path

from nightshift.declare.features import FeatureSet, FeatureTable
from nightshift.declare.feeds import Column, Expectation, Feed
from nightshift.declare.models import ModelSpec
from nightshift.declare.policies import (
    AttackPolicy,
    CompressionBudget,
    CorrectionPolicy,
    DataSource,
    DriftPolicy,
    FeasibleChange,
    PromotionPolicy,
    Risk,
    RiskPolicy,
    SlicePolicy,
    TrainingPolicy,
    VerificationPolicy,
)
from nightshift.declare.use_case import UseCase

SQL = Path(__file__).resolve().parent / "sql"

KEY = (
    Column("booking_date", "date", nullable=False),
    Column("booking", "int64", nullable=False),
)
BOOKING = (
    *KEY,
    Column("branch", "string", nullable=False),
    Column("customer", "string", nullable=False),
    Column("hours", "float64", nullable=False, unit="hours"),
)
RETURNED_LATE = Column("returned_late", "int64", nullable=False)
FIRST_PARTITION = date(2020, 3, 1)

PARAMETERS = {
    "xgboost": {"n_estimators": 20, "max_depth": 3},
    "distilled_xgboost": {"n_estimators": 10, "max_depth": 2},
    "distilled_mlp": {"max_iter": 20},
}

USE_CASE = UseCase(
    name="late_returns",
    title="Tools that will come back late",
    owner="rental-desk",
    folder=SQL.parent,
    timezone="Europe/Vienna",
    cutoff_time=time(4, 30),
    first_partition=FIRST_PARTITION,
    last_partition=date(2020, 4, 30),
    feeds=(
        Feed(
            name="bookings",
            landed=BOOKING,
            curated=BOOKING,
            normalise=SQL / "bookings.sql",
            key=("booking_date", "booking"),
            expectations=(
                Expectation(
                    "expect_column_values_to_be_between",
                    {"column": "hours", "min_value": 0, "max_value": 240},
                    "quarantine",
                    "hours_out_of_range",
                ),
            ),
        ),
        Feed(
            name="returns",
            landed=(*BOOKING, RETURNED_LATE),
            curated=(*BOOKING, RETURNED_LATE),
            normalise=SQL / "returns.sql",
            key=("booking_date", "booking"),
            expectations=(
                Expectation(
                    "expect_column_values_to_be_in_set",
                    {"column": "returned_late", "value_set": [0, 1]},
                    "critical",
                    "returned_late_is_no_flag",
                ),
            ),
        ),
    ),
    features=FeatureSet(
        prelude=SQL / "prelude.sql",
        tables=(
            FeatureTable(
                "booking",
                ("booking_key",),
                SQL / "booking.sql",
                numeric=("hours", "weekday"),
                categorical=("customer",),
            ),
            FeatureTable(
                "branch_history",
                ("branch",),
                SQL / "branch_history.sql",
                numeric=("branch_late_rate",),
                monitored=("returns_per_day",),
            ),
        ),
        lookback_days=14,
        service="late_returns_v1",
    ),
    training_spine=SQL / "training_spine.sql",
    scoring_spine=SQL / "scoring_spine.sql",
    label="is_late",
    score="p_late",
    decision_threshold=0.5,
    prediction_key=KEY,
    prediction_extra=(Column("branch", "string", nullable=False),),
    prediction_date="booking_date",
    compression=CompressionBudget(largest_auc_loss=0.05, largest_log_loss_increase=0.05, objective="bytes"),
    champion=ModelSpec(
        name="small_trees",
        estimators=("logistic_regression", "xgboost"),
        compression=("distilled_xgboost",),
        parameters=PARAMETERS,
    ),
    fallback=ModelSpec(name="fallback", estimators=("logistic_regression",), numeric=("branch_late_rate",)),
    challengers=(ModelSpec(name="linear", estimators=("logistic_regression",)),),
    labels_from=("returns",),
    training=TrainingPolicy(
        holdout_days=4,
        minimum_days=10,
        parameters=PARAMETERS,
        # At most this far may a score move between the fitted and the exported model.
        parity_tolerance=1e-4,
    ),
    promotion=PromotionPolicy(
        backtest_partitions=6,
        refit_every=2,
        block_days=2,
        margin_log_loss=0.5,
        margin_calibration=0.1,
        shadow_partitions=2,
        live_band=0.5,
        canary_partitions=2,
        canary_share=0.25,
        watch_partitions=2,
        emergency_margin=2.0,
    ),
    # Four holdout days of forty rows: bounds as wide as so little data asks for.
    verification=VerificationPolicy(
        largest_single_feature_auc=0.95,
        largest_step_move=0.5,
        largest_flip_share=0.2,
        least_rows_per_second=2_000.0,
        largest_single_row_p99_ms=250.0,
    ),
    attacks=AttackPolicy(
        changes=(FeasibleChange(("hours",), (-12.0, 12.0), "a customer, who books other hours than are needed"),),
        trigger={"hours": 200.0},
        trigger_share=0.02,
        queries=(50, 100),
        largest_evaded_share=1.0,
        largest_fall=0.5,
        largest_log_loss_rise=0.3,
        largest_explained=1.0,
        largest_membership_auc=0.65,
        least_rows=200,
        least_decisions=20,
    ),
    slices=SlicePolicy(columns=("customer",), least_rows=30, margin_log_loss=0.2),
    # The score of 15 demands that a person approves each model.
    risk=RiskPolicy(
        risks=(Risk("tools are missing", likelihood=5, impact=3, worst_case="a building site stands still"),),
    ),
    sources=(DataSource("made up by replay.py", "Apache-2.0"),),
    # Tests deliver whole days again with other labels.
    corrections=CorrectionPolicy(largest_changed_share=1.0),
    drift=DriftPolicy(windows=(1, 7), reference_days=28, recent_days=1, least_reference_days=8),
    tags=("tools",),
)
