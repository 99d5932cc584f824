"""Features of scoring against those of training, on real services, with Feast and a trained model."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from nightshift.documents.check_drift import Drift, GroupDrift
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.feast.feature_store import historical_features
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.steps.predict import score
from support.history import TRAINED, History
from support.nights import Nights

DAY = timedelta(days=1)
NIGHT = TRAINED + DAY
CHECKED = NIGHT + 2 * DAY
"""The first partition whose check has training rows of the predictions of NIGHT: those of the partition before it."""

pytestmark = pytest.mark.filterwarnings("default")


def predict(nights: Nights, history: History, night: date) -> None:
    """The next night, without a training of its own."""
    history.copy(nights.store, night, first=night)
    nights.predict(night, allow_undecided=True)


def skew_of(nights: Nights, night: date) -> GroupDrift:
    drift = nights.step("compare_drift", night, performance=nights.step("record_performance", night))
    return nights.store.read_document(drift, Drift).groups["skew"]


def lagged(nights: Nights, feature: str) -> Any:
    """In place of `historical_features`: one feature has the values of the partition before."""

    def features(use_case: Any, settings: Any, store: ArtifactStore, service: str, spine: pa.Table, *, partitions: Any):
        joined = historical_features(use_case, settings, store, service, spine, partitions=partitions)
        at = spine.column_names.index("event_timestamp")
        earlier = spine.set_column(at, "event_timestamp", pc.subtract(spine["event_timestamp"], pa.scalar(DAY)))
        before = {day - DAY: store.current(use_case.name, "publish_features", day - DAY) for day in partitions.pinned}
        old = historical_features(use_case, settings, store, service, earlier, partitions=before)
        return joined.set_column(joined.column_names.index(feature), feature, old[feature])

    return features


def test_features_are_those_of_training(trained_nights: Nights, history: History) -> None:
    nights = trained_nights
    predict(nights, history, NIGHT)
    found = skew_of(nights, NIGHT)
    assert (found.verdict, found.columns) == ("not judged", ())
    for night in (NIGHT + DAY, CHECKED):
        predict(nights, history, night)
    found = skew_of(nights, CHECKED)
    assert found.verdict == "stable"
    assert {(one.name, one.value) for one in found.columns} == {
        ("booking.hours", 0.0), ("booking.weekday", 0.0), ("booking.customer", 0.0),
        ("branch_history.branch_late_rate", 0.0),
    }  # fmt: skip
    assert "40 rows compared" in found.reason


def test_a_feature_that_is_late_by_a_day_is_found_on_the_first_night(
    trained_nights: Nights, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = trained_nights
    with monkeypatch.context() as patch:
        patch.setattr(score, "historical_features", lagged(nights, "branch_late_rate"))
        predict(nights, history, NIGHT)
    for night in (NIGHT + DAY, CHECKED):
        predict(nights, history, night)
    nights.check_drift(CHECKED)
    found = skew_of(nights, CHECKED)
    assert [one.name for one in found.drifted] == ["branch_history.branch_late_rate"]
    assert found.drifted[0].value == 1.0
    warehouse = Warehouse(nights.settings, nights.use_case)
    with warehouse.connection() as connection:
        drifted = connection.execute(
            "SELECT drift, source, column_name FROM late_returns.drift_daily WHERE drifted"
        ).fetchall()
    assert ("skew", "branch_history", "branch_late_rate") in drifted
    report = nights.store.current(nights.use_case.name, "report_drift", CHECKED)
    assert "branch_history.branch_late_rate" in nights.store.read(report, "report.html").decode()
    predict(nights, history, CHECKED + DAY)
    assert skew_of(nights, CHECKED + DAY).verdict == "stable"


def test_late_labels_and_features_published_again_are_no_skew(trained_nights: Nights, history: History) -> None:
    nights, night = trained_nights, NIGHT + DAY
    predict(nights, history, NIGHT)
    replay = __import__("late_returns.replay", fromlist=["deliveries"])
    late = next(body for feed, _, _, body in replay.deliveries(NIGHT) if feed == "returns").decode().splitlines()[1]
    corrected = late[:-1] + str(1 - int(late[-1]))
    history.copy(nights.store, night, first=night)
    before = nights.store.current(nights.use_case.name, "publish_features", NIGHT)

    # A label of a partition before the first prediction is corrected, and comes with a row of the right one.
    nights.deliver([night], lambda feed, body: body + f"{corrected}\n".encode() if feed == "returns" else body)
    nights.ingest(night)
    nights.materialize(night)
    nights.append(night)
    nights.predict(night, allow_undecided=True)
    predict(nights, history, CHECKED)
    found = skew_of(nights, CHECKED)
    assert found.verdict == "stable"
    assert "40 rows compared" in found.reason
    assert "1 rows have no prediction" in found.reason

    # The partition is delivered again, corrected, after it was scored.
    nights.deliver([NIGHT], lambda feed, body: body.replace(b"private", b"trade") if feed == "bookings" else body)
    nights.ingest(NIGHT)
    nights.materialize(NIGHT)
    assert nights.store.current(nights.use_case.name, "publish_features", NIGHT) != before
    nights.append(night)
    found = skew_of(nights, CHECKED)
    assert found.verdict == "not judged"
    assert f"the features of {NIGHT} were published again" in found.reason
    assert "customer" in found.reason
