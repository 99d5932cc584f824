"""The Optuna study: folds, search space, time limit."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from optuna.trial import TrialState

from nightshift.core.models.estimators import DEFAULTS
from nightshift.core.models.fitted import hyperparameters
from nightshift.core.search import study as study_module
from nightshift.core.search.study import (
    importances,
    search,
    space_of,
    walk_forward_folds,
)
from nightshift.errors import ConfigurationError, DataContractError
from support.errors import raises_code
from support.synthetic_training_set import SIGNATURE, training_split

TRAIN = training_split().train
OVERFITTED = {"n_estimators": 200, "max_depth": 6, "learning_rate": 0.2, "min_child_weight": 10.0}


def folds(number=2, days=3):
    return walk_forward_folds(TRAIN, "is_late", folds=number, fold_days=days)


def in_use(**settings):
    return {**hyperparameters("xgboost", DEFAULTS, {}, TRAIN.num_rows), **settings}


def searched(*, settings=None, trials=6, seconds=60.0):
    return search(
        "xgboost",
        folds(),
        SIGNATURE,
        settings or in_use(**OVERFITTED),
        trials=trials,
        seconds=seconds,
        seed=1,
        threads=1,
    )


def test_folds_are_scored_on_newer_days():
    made = folds(3, 4)
    # 15 days: half of them at most are validation.
    assert [(str(f.describe().first), str(f.describe().last)) for f in made] == [
        ("2020-01-10", "2020-01-11"),
        ("2020-01-12", "2020-01-13"),
        ("2020-01-14", "2020-01-15"),
    ]
    for fold in made:
        assert pc.max(fold.train["partition"]).as_py() < pc.min(fold.validation["partition"]).as_py()
        assert fold.train.num_rows == len(fold.train_labels)
        assert fold.validation.num_rows == len(fold.labels)


def test_folds_need_days_and_both_labels():
    with raises_code(DataContractError, "NS-SEARCH-006", "15 training days", "8 folds"):
        folds(8)
    never = TRAIN.set_column(TRAIN.column_names.index("is_late"), "is_late", pa.array([0] * TRAIN.num_rows))
    with raises_code(DataContractError, "NS-SEARCH-007"):
        walk_forward_folds(never, "is_late", folds=2, fold_days=3)


def test_the_space_holds_the_settings_in_use_and_suits_the_rows():
    space = space_of("xgboost", in_use(n_estimators=25, max_depth=9), 5_000)
    assert (space["n_estimators"].low, space["max_depth"].high) == (25, 9)
    assert space["min_child_weight"].high == 100
    with raises_code(ConfigurationError, "NS-SEARCH-008", "'svm'"):
        space_of("svm", {}, 10)


def test_study_starts_with_the_settings_in_use():
    found = searched(trials=8)
    first = found.trials[0]
    assert first.params == {name: in_use(**OVERFITTED)[name] for name in first.params}
    assert {name: first.params[name] for name in OVERFITTED} == OVERFITTED
    assert found.best_value < first.value
    assert found.best_value == min(t.value for t in found.trials if t.state == TrialState.COMPLETE)
    assert sum(importances(found).values()) == pytest.approx(1)


def test_the_same_search_finds_the_same():
    one, other = (searched(trials=4) for _ in range(2))
    assert [t.params for t in one.trials] == [t.params for t in other.trials]
    assert one.best_value == other.best_value


def test_time_limit_never_skips_the_settings_in_use():
    found = searched(seconds=0.0)
    assert len(found.trials) == 1
    assert found.best_params == found.trials[0].params


def test_hopeless_trials_are_ended_early(monkeypatch):
    monkeypatch.setattr(study_module, "PRUNED_AGAINST", 1)
    found = searched(settings=in_use(n_estimators=60, max_depth=2), trials=10)
    pruned = [t for t in found.trials if t.state == TrialState.PRUNED]
    assert pruned
    assert all(len(t.intermediate_values) < len(folds()) for t in pruned)
    assert found.trials[0].state == TrialState.COMPLETE
