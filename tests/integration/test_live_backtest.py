"""A challenger's live losses are those of its backtest, through the steps that train and predict."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from nightshift.declare.models import ModelSpec
from nightshift.deployment import Deployment
from nightshift.documents.train import Registration
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.partitions import partition_range
from nightshift.services.live_backtest import LiveAndBacktest, compare_with_backtest
from nightshift.services.live_scores import scored_partitions
from support.history import TRAINED, History
from support.nights import Nights

FIRST, LAST, KNOWN = (TRAINED + timedelta(days=n) for n in (2, 3, 4))
"""The partitions that the challenger scores, and the one by which all their labels are known."""

pytestmark = pytest.mark.filterwarnings("default")


def train_alone(nights: Nights, partition: date, spec: ModelSpec) -> None:
    """The training of a partition, of one spec only."""
    training_set = nights.step("build_training_set", partition, rows=nights.append(partition))
    specs = nights.step("choose_specs", partition, allow_undecided=True)
    (chosen,) = [one for one in specs if nights.store.manifest(one).variant == spec.spec_id]
    version = nights.step("fit", partition, training_set=training_set, spec=chosen)
    verified = nights.step("verify", partition, training_set=training_set, version=version, allow_undecided=True)
    registered = nights.step("register", partition, verified=[verified])
    (entry,) = nights.store.read_document(registered, Registration).versions
    assert (entry.role, entry.action) == ("challenger", "registered")


def compared(nights: Nights, spec: ModelSpec) -> dict[date, LiveAndBacktest]:
    scored = scored_partitions(nights.store, nights.use_case, [FIRST, LAST])
    return dict(compare_with_backtest(nights.use_case, nights.settings, nights.store, spec, scored, KNOWN))


def test_live_losses_are_those_of_the_backtest(trained_nights: Nights, history: History) -> None:
    nights, (spec,) = trained_nights, trained_nights.use_case.challengers
    shadow = Deployment(
        partition=TRAINED, action="shadow", role="challenger", spec_id=spec.spec_id, spec=spec, decided_by="nominate"
    )
    Warehouse(nights.settings, nights.use_case).record_deployment(shadow)
    history.copy(nights.store, KNOWN, first=TRAINED + timedelta(days=1))
    for night in partition_range(FIRST, LAST):
        train_alone(nights, night - timedelta(days=1), spec)
        nights.predict(night, allow_undecided=True)
    same = compared(nights, spec)
    assert list(same) == [FIRST, LAST]
    for losses in same.values():
        assert losses.live == pytest.approx(losses.backtest, abs=1e-6)
    assert same[FIRST].backtest != same[LAST].backtest

    # Features that were other ones when the rows were scored than the training rows state.
    nights.deliver([LAST], lambda feed, body: body.replace(b",trade,", b",private,") if feed == "bookings" else body)
    nights.ingest(LAST)
    nights.materialize(LAST)
    nights.predict(LAST, allow_undecided=True)
    changed = compared(nights, spec)
    assert changed[FIRST] == same[FIRST]
    assert changed[LAST].backtest == same[LAST].backtest
    assert abs(changed[LAST].live - changed[LAST].backtest) > 0.01
