"""Every night, for each flight scheduled out of New York tomorrow: how likely is it to arrive 15 minutes late or more?

The label follows the rule of the US Bureau of Transportation Statistics: a flight is late when it
reaches the gate 15 minutes or more after its scheduled arrival. Cancelled and diverted flights
have no label and are scored all the same, because the night before nobody knows.
"""

from __future__ import annotations

from datetime import date, time
from pathlib import Path

from flight_delay.features import FALLBACK_FEATURES, FEATURES, SCORING_SPINE, TRAINING_SPINE
from flight_delay.feeds import FEEDS
from nightshift.usecase import Column, CompressionBudget, TrainingPolicy, UseCase

USE_CASE = UseCase(
    name="flight_delay",
    title="Flights out of New York that will arrive late",
    owner="data-platform",
    folder=Path(__file__).resolve().parent,
    tags=("flights", "classification", "nightly"),
    timezone="America/New_York",
    cutoff_time=time(3, 0),
    first_partition=date(2013, 1, 1),
    last_partition=date(2013, 12, 30),
    feeds=FEEDS,
    features=FEATURES,
    training_spine=TRAINING_SPINE,
    scoring_spine=SCORING_SPINE,
    label="is_late",
    score="p_late",
    decision_threshold=0.5,
    prediction_date="flight_date",
    prediction_key=(
        Column("flight_date", "date", nullable=False, description="day of scheduled departure, New York"),
        Column("carrier", "string", nullable=False, description="IATA code of the airline"),
        Column("flight", "int64", nullable=False, description="flight number"),
        Column("origin", "string", nullable=False, description="EWR, JFK or LGA"),
    ),
    prediction_extra=(
        Column("dest", "string", nullable=False, description="FAA code of the destination"),
        Column("scheduled_departure_at", "timestamp", nullable=False),
    ),
    training=TrainingPolicy(fallback_features=FALLBACK_FEATURES),
    compression=CompressionBudget(
        largest_auc_loss=0.01,
        largest_log_loss_increase=0.01,
        objective="rows_per_second",
    ),
)
