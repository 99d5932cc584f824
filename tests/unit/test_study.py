from datetime import date

import optuna
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from optuna.trial import TrialState

from nightshift.core.estimators import DEFAULTS, hyperparameters
from nightshift.core.search import study as study_module
from nightshift.core.search.study import (
    LOG_LOSS,
    importances,
    search,
    space_of,
    study_as_of,
    walk_forward_folds,
)
from nightshift.errors import ConfigurationError, DataContractError
from synthetic_training_set import SIGNATURE, training_split

TRAIN = training_split().train
PARTITION = date(2020, 1, 20)
OVERFITTED = {"n_estimators": 200, "max_depth": 6, "learning_rate": 0.2, "min_child_weight": 10.0}


def folds(number=2, days=3):
    return walk_forward_folds(TRAIN, "is_late", folds=number, fold_days=days)


def in_use(**settings):
    return {**hyperparameters("xgboost", DEFAULTS, {}, TRAIN.num_rows), **settings}


def searched(storage, *, settings=None, trials=6, seconds=60.0, folds_id="a", made=None, partition=PARTITION):
    return search(
        "xgboost",
        made or folds(),
        SIGNATURE,
        settings or in_use(**OVERFITTED),
        storage=storage,
        study_name="toy.xgboost",
        partition=partition,
        folds_id=folds_id,
        trials=trials,
        seconds=seconds,
        seed=1,
        threads=1,
    )


def test_each_fold_is_judged_on_newer_days_than_it_is_fitted_on():
    made = folds(3, 4)
    # 15 days: half of them at most are judged.
    assert [(f.describe()["first"], f.describe()["last"]) for f in made] == [
        ("2020-01-10", "2020-01-11"),
        ("2020-01-12", "2020-01-13"),
        ("2020-01-14", "2020-01-15"),
    ]
    for fold in made:
        assert pc.max(fold.train["partition"]).as_py() < pc.min(fold.judged["partition"]).as_py()
        assert fold.train.num_rows == len(fold.train_labels)
        assert fold.judged.num_rows == len(fold.labels)
        assert 0 < fold.base < 1


def test_folds_need_days_and_both_labels():
    with pytest.raises(DataContractError, match="15 training days are too few for 8 folds"):
        folds(8)
    never = TRAIN.set_column(TRAIN.column_names.index("is_late"), "is_late", pa.array([0] * TRAIN.num_rows))
    with pytest.raises(DataContractError, match="have the one label 0"):
        walk_forward_folds(never, "is_late", folds=2, fold_days=3)


def test_the_space_holds_the_settings_in_use_and_suits_the_rows():
    space = space_of("xgboost", {"n_estimators": 25, "max_depth": 9}, 5_000)
    assert (space["n_estimators"].low, space["max_depth"].high) == (25, 9)
    assert space["min_child_weight"].high == 100
    with pytest.raises(ConfigurationError, match="'svm' has no search space"):
        space_of("svm", {}, 10)


def test_better_settings_are_found_and_those_in_use_are_judged_first():
    found = searched(optuna.storages.InMemoryStorage(), trials=8)
    first = found.trials[0]
    assert first.params == found.in_use
    assert {name: found.in_use[name] for name in OVERFITTED} == OVERFITTED
    assert found.in_use_log_loss == first.user_attrs[LOG_LOSS]
    assert found.best_log_loss < found.in_use_log_loss
    assert found.best_log_loss == min(t.user_attrs[LOG_LOSS] for t in found.trials if t.state == TrialState.COMPLETE)
    assert sum(importances(found).values()) == pytest.approx(1)


def test_the_same_search_finds_the_same():
    one, other = (searched(optuna.storages.InMemoryStorage(), trials=4) for _ in range(2))
    assert [t.params for t in one.trials] == [t.params for t in other.trials]
    assert one.best_log_loss == other.best_log_loss


def test_a_search_goes_on_where_it_stopped():
    storage = optuna.storages.InMemoryStorage()
    stopped = searched(storage, trials=3)
    study = optuna.load_study(study_name="toy.xgboost", storage=storage)
    study.ask()  # a trial that the killed process was at,
    study.enqueue_trial(dict(stopped.best))  # and one that it was about to begin
    resumed = searched(storage, trials=5)
    assert [t.number for t in resumed.trials[:3]] == [t.number for t in stopped.trials]
    assert len(resumed.trials) == 5
    assert len({str(t.params) for t in resumed.trials}) == 5
    assert [t.state for t in study.trials if t.state == TrialState.FAIL] == [TrialState.FAIL] * 2
    # Nothing is left to do.
    assert len(searched(storage, trials=5).trials) == 5


def test_seconds_bound_a_search_but_the_settings_in_use_are_always_judged():
    found = searched(optuna.storages.InMemoryStorage(), seconds=0.0)
    assert len(found.trials) == 1
    assert found.best == found.in_use


def test_other_folds_begin_with_what_was_best_elsewhere():
    storage = optuna.storages.InMemoryStorage()
    before = searched(storage, trials=5)
    found = searched(storage, trials=3, folds_id="b", made=folds(2, 2))
    assert found.trials[0].params == found.in_use
    assert found.trials[1].params == before.best
    # Stopped before it came to them, the next search begins anew.
    searched(storage, seconds=0.0, folds_id="c", made=folds(1, 2))
    assert searched(storage, trials=2, folds_id="c", made=folds(1, 2)).trials[1].params == before.best
    # What was judged on other folds is never the best of these.
    assert {t.number for t in found.trials}.isdisjoint(t.number for t in before.trials)


def test_a_search_for_an_earlier_partition_does_not_know_what_later_ones_tried():
    storage = optuna.storages.InMemoryStorage()
    assert study_as_of(storage, "toy.xgboost", PARTITION) == "toy.xgboost"
    searched(storage, trials=2)
    assert study_as_of(storage, "toy.xgboost", PARTITION) == "toy.xgboost"
    assert study_as_of(storage, "toy.xgboost", date(2020, 2, 1)) == "toy.xgboost"
    assert study_as_of(storage, "toy.xgboost", date(2020, 1, 19)) == "toy.xgboost.2020-01-19"


def test_hopeless_trials_are_ended_early(monkeypatch):
    monkeypatch.setattr(study_module, "PRUNED_AGAINST", 1)
    found = searched(optuna.storages.InMemoryStorage(), settings=in_use(n_estimators=60, max_depth=2), trials=10)
    pruned = [t for t in found.trials if t.state == TrialState.PRUNED]
    assert pruned
    assert all(len(t.intermediate_values) < len(folds()) for t in pruned)
    assert found.trials[0].state == TrialState.COMPLETE
