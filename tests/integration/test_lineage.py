"""From a published prediction back to the landed bytes, by references alone."""

from __future__ import annotations

import pytest

from nightshift.errors import ArtifactCorrupt, ConfigurationError
from nightshift.services.lineage import trace
from support.desk import D, Desk, begin, begin_canary, days_after
from support.errors import raises_code


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """Versions whose training set has a part for each of the eight partitions before D."""
    curated = [desk.deliver(days_after(-n)) for n in range(8, 0, -1)]
    begin(desk, training_set=desk.training_set(days_after(-1), curated))
    return desk


def traced(desk: Desk, day: int, booking: int = 7) -> str:
    key = {"booking_date": str(days_after(day)), "booking": str(booking)}
    return trace(desk.use_case, desk.settings, desk.store, key)


def test_a_prediction_leads_to_its_landed_row(desk: Desk) -> None:
    desk.night(D)
    text = traced(desk, 1)
    landing = f"s3://{desk.store.bucket}/landing/{desk.use_case.name}/bookings/"
    assert f"landed as bookings: {landing}dt={D}/bookings.csv row 9" in text
    assert "9 landed files" in text


def test_a_prediction_leads_to_its_training_rows(desk: Desk) -> None:
    desk.night(D)
    text = traced(desk, 1)
    assert "training_set: build_training_set 2020-03-19" in text
    assert "parts: 8 partitions of build_training_set" in text
    assert "8 partitions of publish  2020-03-12 .. 2020-03-19" in text
    landing = f"s3://{desk.store.bucket}/landing/{desk.use_case.name}/bookings/"
    assert f"first {landing}dt=2020-03-12/bookings.csv" in text


def test_a_prediction_leads_to_its_calibration(desk: Desk) -> None:
    desk.live(0, 3)
    text = traced(desk, 4)
    assert "calibrated by intercept +0.0885, slope 1.0000 (120 labels of 3 partitions)" in text
    ref = desk.store.current(desk.use_case.name, "calibrate", days_after(3))
    assert f"calibration: calibrate {days_after(3)}" in text
    assert ref.uri in text
    assert "past_scores: 3 partitions of score  2020-03-20 .. 2020-03-22" in text
    assert "labels: 3 partitions of publish  2020-03-21 .. 2020-03-23" in text


def test_what_earlier_scores_rest_on_is_not_followed(desk: Desk) -> None:
    desk.live(0, 3)
    text = traced(desk, 4)
    assert text.count("calibration: calibrate") == 1
    assert text.count("past_scores") == 1


def test_a_canary_row_names_its_version(desk: Desk) -> None:
    challenger = begin_canary(desk)
    desk.live(1, 2)
    rows = [row for row in desk.rows("predictions") if row["model_version"] == challenger.model_version]
    text = traced(desk, 3, next(row["booking"] for row in rows if row["booking_date"] == days_after(3)))
    assert f"version {challenger.model_version} (canary; primary " in text


def test_a_prediction_that_is_not_there_is_named(desk: Desk) -> None:
    desk.night(D)
    with raises_code(ConfigurationError, "NS-STORE-002", "2020-03-21 999"):
        traced(desk, 1, 999)


def test_a_landed_file_changed_since_is_found_out(desk: Desk) -> None:
    desk.night(D)
    desk.store.put(f"landing/{desk.use_case.name}/bookings/dt=2020-03-14/bookings.csv", b"something else")
    with raises_code(ArtifactCorrupt, "NS-STORE-004", "dt=2020-03-14/bookings.csv"):
        traced(desk, 1)


def test_a_manifest_changed_since_is_found_out(desk: Desk) -> None:
    publication = desk.night(D)
    (scores,) = desk.store.manifest(publication).inputs["scores"]
    (curated,) = desk.store.manifest(scores).inputs["curated"]
    key = desk.store.key(curated.uri) + "manifest.json"
    body = desk.store.get(key)
    assert body is not None
    desk.store.put(
        key, body.replace(b"bookings.csv", b"bookings_2.csv").replace(b'"parameters": {}', b'"parameters": {"x": 1}')
    )
    with raises_code(ArtifactCorrupt, "NS-STORE-016", "manifest.json"):
        traced(desk, 1)
