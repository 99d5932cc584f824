"""From a registered model to the warehouse and back, on hand-made artifacts: no training, no Feast."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from psycopg import sql
from pydantic import SecretStr

from integration.desk import BOOKINGS, D, Desk, late_returns
from nightshift.artifact import ArtifactRef, Decision
from nightshift.errors import ArtifactCorrupt, AuditFailed, ConfigurationError, PartitionNotReady, UnknownModel
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.lineage import trace
from nightshift.settings import Settings
from nightshift.steps.check_drift import compare_drift, record_drift, report_drift
from nightshift.steps.predict import audit, publish_predictions, resolve_model
from nightshift.usecase import UseCase


@pytest.fixture
def use_case(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[UseCase]:
    with late_returns(monkeypatch, settings) as made:
        yield made


@pytest.fixture
def desk(use_case: UseCase, settings: Settings, store: ArtifactStore) -> Desk:
    return Desk(use_case, settings, store)


@pytest.fixture
def bootstrapped(desk: Desk) -> Desk:
    """A fallback and a champion of the partition before D."""
    model = desk.model(D - timedelta(days=1), [desk.curated(D - timedelta(days=n)) for n in range(8, 0, -1)])
    desk.deploy(D - timedelta(days=1), "bootstrap", model, "fallback")
    desk.deploy(D - timedelta(days=1), "promoted", model)
    return desk


def choice_of(desk: Desk, ref: ArtifactRef) -> tuple[str, str]:
    choice = json.loads(desk.store.read(ref, "model_choice.json"))
    return choice["role"], choice["model_version"][:10]


# resolve_model


def test_without_any_model_the_message_says_what_to_run(desk: Desk) -> None:
    with pytest.raises(UnknownModel, match="backfill_history"):
        desk.run(resolve_model, D)


def test_the_fallback_answers_until_there_is_a_champion(desk: Desk) -> None:
    model = desk.model(D, [])
    desk.deploy(D, "bootstrap", model, "fallback")
    assert choice_of(desk, desk.run(resolve_model, D)) == ("fallback", str(D))
    desk.deploy(D, "promoted", model)
    assert choice_of(desk, desk.run(resolve_model, D)) == ("fallback", str(D))
    assert choice_of(desk, desk.run(resolve_model, D + timedelta(days=1))) == ("champion", str(D))


def test_a_partition_waits_for_the_training_before_it(bootstrapped: Desk) -> None:
    desk, after = bootstrapped, D + timedelta(days=1)
    desk.run(resolve_model, D)
    with pytest.raises(PartitionNotReady, match=f"training of partition {D}"):
        desk.run(resolve_model, after)
    undecided = desk.run(resolve_model, after, allow_undecided=True)
    assert desk.store.manifest(undecided).parameters == {"undecided": str(D)}
    assert choice_of(desk, undecided) == ("champion", str(D - timedelta(days=1)))
    desk.deploy(D, "promoted", desk.model(D, []))
    decided = desk.run(resolve_model, after)
    assert choice_of(desk, decided) == ("champion", str(D))
    assert desk.run(resolve_model, after, allow_undecided=True) == decided


@pytest.mark.parametrize("action", ["rejected", "failed"])
def test_a_training_without_a_champion_is_a_decision_too(bootstrapped: Desk, action: str) -> None:
    bootstrapped.deploy(D, action, bootstrapped.model(D, []) if action == "rejected" else None)
    ref = bootstrapped.run(resolve_model, D + timedelta(days=1))
    assert choice_of(bootstrapped, ref) == ("champion", str(D - timedelta(days=1)))


def test_nobody_waits_for_the_training_of_a_refused_partition(bootstrapped: Desk) -> None:
    refused = Decision(status="rejected", reason="half a file")
    bootstrapped.store.decide(bootstrapped.use_case.name, "publish", D, refused)
    bootstrapped.run(resolve_model, D + timedelta(days=1))


def test_the_training_of_a_partition_never_changes_its_own_predictions(bootstrapped: Desk) -> None:
    before = bootstrapped.run(resolve_model, D)
    bootstrapped.deploy(D, "promoted", bootstrapped.model(D, []))
    assert bootstrapped.run(resolve_model, D) == before


# audit and publish_predictions


def test_scores_that_miss_a_scheduled_row_are_not_published(bootstrapped: Desk) -> None:
    desk = bootstrapped
    curated = desk.curated(D)
    scores = desk.score(D, desk.run(resolve_model, D), curated, rows=BOOKINGS - 1)
    with pytest.raises(AuditFailed, match="rows equal the schedule's: 39, must be = 40"):
        desk.run(audit, D, scores=scores)
    decision = desk.store.decision(desk.use_case.name, "audit", D)
    assert decision is not None
    assert decision.status == "rejected"
    assert decision.ref is not None
    assert desk.store.manifest(decision.ref).metrics["failed"] == ["rows equal the schedule's"]
    with pytest.raises(AuditFailed, match="not a passed audit"):
        desk.run(publish_predictions, D, scores=scores, audited=decision.ref)
    assert desk.count("predictions") == 0


def test_the_audit_of_other_scores_does_not_count(bootstrapped: Desk) -> None:
    desk = bootstrapped
    curated, choice = desk.curated(D), desk.run(resolve_model, D)
    audited = desk.run(audit, D, scores=desk.score(D, choice, curated))
    other = desk.score(D, choice, curated, rows=BOOKINGS - 1)
    with pytest.raises(AuditFailed, match="not a passed audit"):
        desk.run(publish_predictions, D, scores=other, audited=audited)


def test_a_night_published_twice_is_one_night(bootstrapped: Desk) -> None:
    assert bootstrapped.night(D) == bootstrapped.night(D)
    assert (bootstrapped.count("predictions"), bootstrapped.count("publications")) == (BOOKINGS, 1)


# drift


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[str]]]:
    received: list[str] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/secret", received
        server.shutdown()
        thread.join()


def drift_night(desk: Desk, partition: date) -> dict[str, Any]:
    drift = desk.run(compare_drift, partition)
    report = desk.run(report_drift, partition, drift=drift)
    ref = desk.run(record_drift, partition, drift=drift, report=report)
    return dict(desk.store.manifest(ref).metrics)


def test_an_ordinary_night_asks_for_nothing(bootstrapped: Desk) -> None:
    bootstrapped.night(D)
    metrics = drift_night(bootstrapped, D)
    assert metrics["response"] == "none"
    assert metrics["performance"] is None  # nothing was predicted for D itself
    assert bootstrapped.count("drift_daily") == 3
    assert bootstrapped.count("outcomes") == BOOKINGS


def test_performance_is_of_the_day_that_matured(bootstrapped: Desk) -> None:
    bootstrapped.night(D)
    late = [0] * 20 + [1] * 20
    bootstrapped.night(D + timedelta(days=1), labels=late)
    performance = drift_night(bootstrapped, D + timedelta(days=1))["performance"]
    scores = np.linspace(0.1, 0.9, BOOKINGS)
    assert performance["prediction_date"] == str(D + timedelta(days=1))
    assert (performance["rows"], performance["predictions"], performance["auc"]) == (BOOKINGS, BOOKINGS, 1.0)
    assert performance["brier"] == pytest.approx(((scores - late) ** 2).mean())
    assert bootstrapped.count("performance_daily") == 1


def test_outcomes_that_are_all_late_ask_for_retraining_once(bootstrapped: Desk, webhook: tuple[str, list[str]]) -> None:
    desk, (url, received) = bootstrapped, webhook
    desk.settings = desk.settings.model_copy(update={"alert_webhook_url": SecretStr(url)})
    desk.night(D, labels=[1] * BOOKINGS)
    assert drift_night(desk, D)["response"] == "retrain"
    rows = sql.SQL("SELECT xmin, * FROM {} ORDER BY drift, column_name").format(desk.warehouse.table("drift_daily"))
    with desk.warehouse.connection() as connection:
        before = connection.execute(rows).fetchall()
    drift_night(desk, D)
    with desk.warehouse.connection() as connection:
        assert connection.execute(rows).fetchall() == before
    assert len(received) == 1
    assert "label drifted" in received[0]
    assert "report.html" in received[0]


def test_an_alert_that_is_not_taken_does_not_fail_the_night(
    bootstrapped: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    url = SecretStr("http://127.0.0.1:1/secret")
    bootstrapped.settings = bootstrapped.settings.model_copy(update={"alert_webhook_url": url})
    bootstrapped.night(D, labels=[1] * BOOKINGS)
    assert drift_night(bootstrapped, D)["response"] == "retrain"
    assert "did not take the message" in caplog.text
    assert "/secret" not in caplog.text


# lineage


def test_a_prediction_leads_to_its_landed_row(bootstrapped: Desk) -> None:
    desk = bootstrapped
    desk.night(D)
    text = trace(desk.use_case, desk.settings, desk.store, {"booking_date": str(D + timedelta(days=1)), "booking": "7"})
    landing = f"s3://{desk.store.bucket}/landing/{desk.use_case.name}/bookings/"
    assert f"landed as bookings: {landing}dt={D}/bookings.csv row 9" in text
    assert "8 partitions of publish  2020-03-12 .. 2020-03-19" in text
    assert f"first {landing}dt=2020-03-12/bookings.csv" in text
    assert "9 landed files" in text


def test_a_prediction_that_is_not_there_is_named(bootstrapped: Desk) -> None:
    bootstrapped.night(D)
    with pytest.raises(ConfigurationError, match="2020-03-21 999"):
        trace(
            bootstrapped.use_case,
            bootstrapped.settings,
            bootstrapped.store,
            {"booking_date": "2020-03-21", "booking": "999"},
        )


def test_a_landed_file_changed_since_is_found_out(bootstrapped: Desk) -> None:
    desk = bootstrapped
    desk.night(D)
    desk.store.put(f"landing/{desk.use_case.name}/bookings/dt=2020-03-14/bookings.csv", b"something else")
    with pytest.raises(ArtifactCorrupt, match=r"dt=2020-03-14/bookings\.csv was changed"):
        trace(desk.use_case, desk.settings, desk.store, {"booking_date": "2020-03-21", "booking": "7"})


def test_a_manifest_changed_since_is_found_out(bootstrapped: Desk) -> None:
    desk = bootstrapped
    publication = desk.night(D)
    (scores,) = desk.store.manifest(publication).inputs["scores"]
    (curated,) = desk.store.manifest(scores).inputs["curated"]
    key = desk.store.key(curated.uri) + "manifest.json"
    body = desk.store.get(key)
    assert body is not None
    desk.store.put(
        key, body.replace(b"bookings.csv", b"bookings_2.csv").replace(b'"parameters": {}', b'"parameters": {"x": 1}')
    )
    with pytest.raises(ArtifactCorrupt, match="was changed"):
        trace(desk.use_case, desk.settings, desk.store, {"booking_date": "2020-03-21", "booking": "7"})
