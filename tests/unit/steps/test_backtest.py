"""Walking forward: each version and each calibration sees what was known when it was made, and nothing else."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from nightshift.core.backtest import walk as backtest
from nightshift.core.backtest.figures import difference, months, partition_losses, slices
from nightshift.core.backtest.nomination import scrambled
from nightshift.core.backtest.walk import History, Plan, share, walk_forward
from nightshift.core.evaluation import log_loss
from nightshift.core.features.training_rows import newest_rows
from nightshift.declare.models import CalibrationSpec, ModelSpec
from nightshift.declare.policies import SlicePolicy
from nightshift.errors import LookAhead, TerminalError
from support.errors import raises_code
from support.synthetic_training_set import FIRST, SIGNATURE, training_table

KEY = ["flight_date", "flight"]
SPEC = ModelSpec(
    name="line", estimators=("logistic_regression",), calibration=CalibrationSpec(half_life_days=1.0, slope=True)
)
FROM, TO = FIRST + timedelta(days=11), FIRST + timedelta(days=17)


def with_columns(rows: pa.Table, **columns: pa.Array) -> pa.Table:
    for name, values in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, values)
    return rows


def delivered() -> pa.Table:
    """Most labels are known one partition later, some after four; some of the former are corrected then."""
    rows = training_table(rows_per_day=40).drop_columns(["split"])
    kind = np.arange(rows.num_rows) % 10
    day = np.asarray(rows["partition"].to_numpy())
    known_on = np.where(kind == 3, day + np.timedelta64(4, "D"), day + np.timedelta64(1, "D"))
    rows = with_columns(rows, known_on=pa.array(known_on, pa.date32()))
    corrected = rows.filter(pa.array(kind == 7))
    corrected = with_columns(
        corrected,
        known_on=pa.array(np.asarray(corrected["known_on"].to_numpy()) + np.timedelta64(3, "D"), pa.date32()),
        is_late=pc.subtract(1, corrected["is_late"]),
    )
    return pa.concat_tables([rows, corrected])


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return delivered()


def plan(**arguments) -> Plan:
    defaults = {"spec": SPEC, "signature": SIGNATURE, "first": FROM, "last": TO, "refit_every": 2, "minimum_days": 3}
    return Plan(**(defaults | arguments))


def walk(rows: pa.Table, **arguments):
    return walk_forward(History.of(rows, KEY, "is_late"), plan(**arguments))


def changed_after(rows: pa.Table, day: date) -> pa.Table:
    """Everything that became known after a partition holds other values, whatever its type."""
    limit = pa.scalar(day, pa.date32())
    later = pc.greater(rows["partition"], limit)
    known = rows.filter(pc.less_equal(rows["known_on"], limit))
    ahead = scrambled(rows.filter(later), known, ["partition", "known_on"], 3)
    assert all(not ahead[name].equals(rows.filter(later)[name]) for name in ("rate", "plane", "is_late", *KEY))
    before = rows.filter(pc.invert(later))
    wrong = pc.if_else(pc.greater(before["known_on"], limit), pc.subtract(1, before["is_late"]), before["is_late"])
    return pa.concat_tables([with_columns(before, is_late=wrong), ahead])


def scores_up_to(walks, day: date) -> list[np.ndarray]:
    return [one.scores[one.partition <= (day - date(1970, 1, 1)).days] for one in walks]


def same_scores_after_change(rows: pa.Table, day: date) -> bool:
    before, after = (scores_up_to(walk(r, frozen=True), day) for r in (rows, changed_after(rows, day)))
    assert all(len(one) for one in before)
    return all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("ahead", [0, 1, 3, 5])
def test_what_became_known_later_changes_no_score(rows, ahead) -> None:
    assert same_scores_after_change(rows, FROM + timedelta(days=ahead))


def test_a_look_ahead_is_an_error_and_would_change_scores(rows, monkeypatch) -> None:
    honest = History.known
    monkeypatch.setattr(
        History, "known", lambda self, as_of, first=None, last=None: honest(self, date.max, first, last)
    )
    with raises_code(LookAhead, "NS-BACKTEST-007", "24 labels"):
        walk(rows)
    monkeypatch.setattr(backtest, "_no_look_ahead", lambda *arguments: None)
    assert not same_scores_after_change(rows, FROM + timedelta(days=1))


def test_rows_of_later_partitions_are_an_error(rows, monkeypatch) -> None:
    honest = History.known
    week = timedelta(days=7)
    monkeypatch.setattr(
        History,
        "known",
        lambda self, as_of, first=None, last=None: honest(self, as_of + week, first, last and last + week),
    )
    with raises_code(LookAhead, "NS-BACKTEST-007", "268 rows"):
        walk(rows)


def test_a_label_known_before_its_day_is_an_error(rows) -> None:
    with raises_code(LookAhead, "NS-BACKTEST-002"):
        History.of(with_columns(rows, known_on=rows["partition"]), KEY, "is_late")


@pytest.mark.parametrize("day", [4, 9, 30])
def test_known_rows_are_the_newest_rows(rows, day) -> None:
    history, as_of = History.of(rows, KEY, "is_late"), FIRST + timedelta(days=day)
    assert history.rows.take(pa.array(history.known(as_of))).equals(newest_rows(rows, KEY, as_of))


def test_late_and_corrected_labels_count_once_known(rows) -> None:
    history, as_of = History.of(rows, KEY, "is_late"), FIRST + timedelta(days=5)
    fitted = history.fitted_on(as_of, 1)
    assert fitted is not None
    per_day = dict(zip(*np.unique(fitted["partition"].to_numpy(), return_counts=True), strict=True))
    assert [per_day[np.datetime64(FIRST + timedelta(days=n))] for n in range(5)] == [40, 40, 36, 36, 36]
    day_one = pc.equal(rows["partition"], pa.scalar(FIRST, pa.date32()))
    assert history.labels_known(FIRST, FIRST + timedelta(days=2))[1].sum() != history.labels[:40].sum()
    assert rows.filter(day_one).num_rows == 44
    assert history.predictions == 800


@pytest.mark.parametrize(("every", "lags"), [(1, [1] * 7), (3, [1, 2, 3, 1, 2, 3, 1])])
def test_versions_are_from_an_earlier_partition(rows, every, lags) -> None:
    (one,) = walk(rows, refit_every=every)
    assert [(day - origin).days for day, origin in sorted(one.trained_on.items())] == lags


def test_calibration_rests_on_labels_known_by_the_partition(rows, monkeypatch) -> None:
    seen = []
    fit = backtest.fit_calibration
    monkeypatch.setattr(backtest, "fit_calibration", lambda spec, history: seen.append(history) or fit(spec, history))
    (one,) = walk(rows)
    assert len(seen) == 7
    for offset, history in enumerate(seen):
        partition = FROM + timedelta(days=offset)
        assert [(partition - past.partition).days - past.age_days for past in history] == [1] * len(history)
        assert history[-1].partition == partition - timedelta(days=1)
        assert [len(past.labels) for past in history[-4:]] == [40, 36, 36, 36]
    assert not np.array_equal(one.raw, one.scores)


def test_without_calibration_scores_are_raw(rows) -> None:
    (one,) = walk(rows, spec=SPEC.model_copy(update={"calibration": CalibrationSpec(half_life_days=0)}))
    assert np.array_equal(one.raw, one.scores)


def test_the_frozen_version_is_the_first_one_throughout(rows) -> None:
    refitted, frozen, calibrated = walk(rows, frozen=True)
    (once,) = walk(rows, refit_every=7)
    first = refitted.partition < refitted.partition[0] + 2
    assert np.array_equal(frozen.raw[first], refitted.raw[first])
    assert not np.array_equal(frozen.raw, refitted.raw)
    assert np.array_equal(frozen.raw, once.raw)
    assert np.array_equal(frozen.scores, frozen.raw)
    assert not np.array_equal(calibrated.scores, calibrated.raw)
    assert set(frozen.trained_on.values()) == {FROM - timedelta(days=1)}


def test_processes_give_the_scores_of_one(rows) -> None:
    history = History.of(rows, KEY, "is_late")
    with ThreadPoolExecutor(2, initializer=share, initargs=(history,)) as pool:
        side_by_side = walk_forward(history, plan(frozen=True), pool)
    for one, other in zip(side_by_side, walk(rows, frozen=True), strict=True):
        assert np.array_equal(one.scores, other.scores)


def test_the_graph_answers_like_the_fitted_pipeline(rows) -> None:
    (one,) = walk(rows)
    assert one.graph_difference is not None
    assert one.graph_difference < 1e-5


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ({"minimum_days": 15}, "NS-BACKTEST-005", "15 partitions"),
        ({"first": date(2021, 1, 1), "last": date(2021, 1, 3)}, "NS-BACKTEST-003", "2021-01-03"),
    ],
)
def test_too_little_history_is_an_error(rows, arguments, code, named) -> None:
    with raises_code(TerminalError, code, named):
        walk(rows, **arguments)


def test_figures_use_the_labels_known_last(rows) -> None:
    history = History.of(rows, KEY, "is_late")
    (one,) = walk_forward(history, plan())
    losses = partition_losses([one])
    assert losses["partition"].to_pylist() == [FROM + timedelta(days=n) for n in range(7)]
    assert losses["trained_on"].to_pylist()[0] == FROM - timedelta(days=1)
    final = newest_rows(rows, KEY, date.max)
    within = pc.and_(
        pc.greater_equal(final["partition"], pa.scalar(FROM)), pc.less_equal(final["partition"], pa.scalar(TO))
    )
    assert one.labels.tolist() == final.filter(within)["is_late"].to_pylist()
    (month,) = months(one)
    assert month.month == "2020-01"
    assert month.log_loss == pytest.approx(log_loss(one.labels, one.scores))
    assert np.average(losses["log_loss"], weights=losses["rows"]) == pytest.approx(month.log_loss)


def test_slices_are_compared_with_the_champion(rows) -> None:
    history = History.of(rows, KEY, "is_late")
    blind = SPEC.model_copy(update={"name": "blind"})
    (champion,) = walk_forward(history, plan())
    (other,) = walk_forward(history, plan(spec=blind, signature=SIGNATURE.model_copy(update={"categorical": ()})))
    policy = SlicePolicy(columns=("carrier", "plane"), least_rows=20)
    features = history.features(history.between(FROM, TO))
    found = {(one.column, one.value): one for one in slices(other, champion, features, policy, block_days=1)}
    assert sum(one.rows for (column, _), one in found.items() if column == "carrier") == 280
    assert all(one.difference is None for (column, _), one in found.items() if column == "plane" and one.rows < 20)
    judged = [one.difference for one in found.values() if one.difference is not None]
    assert len(judged) >= 3
    assert found["carrier", "ZZ"].difference.mean > 0
    assert difference(other, champion, block_days=1, confidence=0.9, seed=1).mean > 0
