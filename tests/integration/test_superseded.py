"""A task that is cleared days later, with what earlier tasks made then, publishes nothing in place of what is newer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from nightshift.artifact import ArtifactRef
from nightshift.core.ingest.landed_table import LandedTable
from nightshift.declare.use_case import UseCase
from nightshift.errors import PartitionNotReady, StatusChanged, Superseded
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.steps.ingest import land
from nightshift.steps.materialize import load_online
from support.desk import D, Desk, begin
from support.errors import raises_code
from support.history import FIRST, TRAINED
from support.nights import Nights

NIGHT = FIRST

pytestmark = pytest.mark.filterwarnings("default")


def other_hours(feed: str, body: bytes) -> bytes:
    """The same delivery, one customer another."""
    return body.replace(b"private", b"trade", 1)


def test_an_old_delivery_does_not_replace_a_newer_one(untrained_nights: Nights) -> None:
    nights = untrained_nights
    nights.deliver([NIGHT])
    landed = nights.step("land", NIGHT)
    profiled, validated = (nights.step(name, NIGHT, landed=landed) for name in ("profile", "validate"))
    nights.deliver([NIGHT], other_hours)
    newer = nights.ingest(NIGHT)
    for step, refs in (("validate", {"landed": landed}), ("publish", {"validated": validated, "profiled": profiled})):
        with raises_code(Superseded, "NS-NIGHT-001", landed.uri, NIGHT):
            nights.step(step, NIGHT, **refs)
        assert nights.store.current(nights.use_case.name, "publish", NIGHT) == newer


def test_an_old_delivery_does_not_reject_a_newer_one(untrained_nights: Nights) -> None:
    nights = untrained_nights
    nights.deliver([NIGHT], lambda feed, body: body.replace(b",1\n", b",7\n"))
    landed = nights.step("land", NIGHT)
    nights.deliver([NIGHT])
    newer = nights.ingest(NIGHT)
    with raises_code(Superseded, "NS-NIGHT-001", landed.uri):
        nights.step("validate", NIGHT, landed=landed)
    assert nights.store.current(nights.use_case.name, "publish", NIGHT) == newer


def test_a_delivery_that_breaks_while_a_newer_one_is_published_rejects_nothing(
    untrained_nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights, read = untrained_nights, land.read_landed
    nights.deliver([NIGHT], lambda feed, body: b"\0")
    newer: list[ArtifactRef] = []

    def read_meanwhile(*arguments: Any) -> LandedTable:
        monkeypatch.undo()
        nights.deliver([NIGHT])
        newer.append(nights.ingest(NIGHT))
        return read(*arguments)

    monkeypatch.setattr(land, "read_landed", read_meanwhile)
    with raises_code(StatusChanged, "NS-STORE-067", NIGHT):
        nights.step("land", NIGHT)
    assert [nights.store.current(nights.use_case.name, "publish", NIGHT)] == newer


def test_old_features_do_not_replace_newer_ones(untrained_nights: Nights) -> None:
    nights, name = untrained_nights, untrained_nights.use_case.name
    nights.deliver([NIGHT])
    nights.ingest(NIGHT)
    old = nights.step("build_features", NIGHT)
    old_published = nights.step("publish_features", NIGHT, features=old)
    nights.deliver([NIGHT], other_hours)
    nights.ingest(NIGHT)
    newer = nights.materialize(NIGHT)
    with raises_code(Superseded, "NS-NIGHT-001", old.uri):
        nights.step("publish_features", NIGHT, features=old)
    with raises_code(Superseded, "NS-NIGHT-001", old_published.uri):
        nights.step("load_online", NIGHT, published=old_published)
    assert nights.store.current(name, "publish_features", NIGHT) == newer


def test_newer_features_that_are_loaded_meanwhile_are_not_replaced(
    untrained_nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights, loading = untrained_nights, load_online.loading_online
    nights.deliver([NIGHT])
    nights.ingest(NIGHT)
    old = nights.materialize(NIGHT)
    nights.deliver([NIGHT], other_hours)
    nights.ingest(NIGHT)

    @contextmanager
    def after_another(use_case: UseCase, settings: Settings) -> Iterator[None]:
        """Another process has the lock first."""
        nights.materialize(NIGHT)
        with loading(use_case, settings):
            yield

    monkeypatch.setattr(load_online, "loading_online", after_another)
    with raises_code(Superseded, "NS-NIGHT-001", old.uri):
        nights.step("load_online", NIGHT, published=old)


def test_features_of_an_old_delivery_are_not_published(untrained_nights: Nights) -> None:
    nights = untrained_nights
    nights.deliver([NIGHT])
    old = nights.ingest(NIGHT)
    built = nights.step("build_features", NIGHT)
    nights.deliver([NIGHT], other_hours)
    nights.ingest(NIGHT)
    # As if building them again had failed.
    with raises_code(Superseded, "NS-NIGHT-001", old.uri, f"{nights.use_case.name}.materialize"):
        nights.step("publish_features", NIGHT, features=built)
    assert nights.store.decision(nights.use_case.name, "publish_features", NIGHT) is None


def test_scores_of_an_old_delivery_are_not_published(trained_nights: Nights) -> None:
    nights, day = trained_nights, TRAINED + timedelta(days=1)
    name = nights.use_case.name
    nights.deliver([day])
    old = nights.ingest(day)
    old_features = nights.materialize(day)
    choice = nights.step("resolve_model", day, allow_undecided=True)
    calibration = nights.step("calibrate", day, model_choice=choice)
    scores = nights.step("score", day, model_choice=choice, calibration=calibration)
    audited = nights.step("audit", day, scores=scores)
    nights.deliver([day], other_hours)
    nights.ingest(day)
    with raises_code(PartitionNotReady, "NS-PREDICT-006", old_features.uri):
        nights.step("score", day, model_choice=choice, calibration=calibration)
    with raises_code(Superseded, "NS-NIGHT-001", f"{name}.predict", old.uri):
        nights.step("publish_predictions", day, scores=scores, audited=audited)
    assert nights.store.decision(name, "publish_predictions", day) is None
    nights.materialize(day)
    nights.predict(day)


def test_an_old_version_is_not_registered(trained_nights: Nights) -> None:
    nights, store, use_case = trained_nights, trained_nights.store, trained_nights.use_case
    spec_id = use_case.champion.spec_id
    old = store.current(use_case.name, "verify", TRAINED, variant=spec_id)
    decisions = Warehouse(nights.settings, use_case).decisions()
    store.commit(
        use_case=use_case.name, step="verify", partition=TRAINED, variant=spec_id, kind="verification",
        files={"verification.json": b"{}"}, inputs=store.manifest(old).inputs,
    )  # fmt: skip
    with raises_code(Superseded, "NS-NIGHT-001", old.uri):
        nights.step("register", TRAINED, verified=[old])
    assert Warehouse(nights.settings, use_case).decisions() == decisions


def test_an_old_review_and_an_old_comparison_decide_nothing(desk: Desk) -> None:
    begin(desk)
    desk.night(D)
    reviewed = desk.step("review", D)
    performance = desk.step("record_performance", D)
    drift = desk.step("compare_drift", D, performance=performance)
    desk.step("report_drift", D, drift=drift)
    for step in ("review", "compare_drift"):
        desk.store.commit(use_case=desk.use_case.name, step=step, partition=D, kind="test", files={"a": b"1"})
    recorded = desk.actions()
    with raises_code(Superseded, "NS-NIGHT-001", reviewed.uri):
        desk.step("advance", D, reviewed=reviewed)
    with raises_code(Superseded, "NS-NIGHT-001", drift.uri):
        desk.step("record_drift", D, drift=drift)
    assert desk.actions() == recorded
    assert desk.count("drift_daily") == 0
