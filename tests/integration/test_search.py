"""A hyperparameter search on real studies in PostgreSQL, and the trainings that take what it found."""

import dataclasses
import json
from datetime import timedelta

import psycopg
import pytest

from nightshift.errors import PartitionNotReady, WarehouseUnavailable
from nightshift.io.hyperparameters import best_known, study_storage
from nightshift.policies import SearchPolicy
from nightshift.steps.search import search_hyperparameters
from nightshift.steps.train import fit
from synthetic_training_set import DAYS, FIRST, committed, training_table, use_case

PARTITION = FIRST + timedelta(days=DAYS - 1)
LATER = PARTITION + timedelta(days=1)
OVERFITTED = {"n_estimators": 200, "max_depth": 6, "learning_rate": 0.2, "min_child_weight": 10.0}


@pytest.fixture
def case(settings):
    made = use_case(parameters={"xgboost": OVERFITTED})
    yield dataclasses.replace(made, search=SearchPolicy(trials=6, seconds=60.0, folds=2, fold_days=3))
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        connection.execute("DROP SCHEMA IF EXISTS optuna CASCADE")


def fitted(case, settings, store, partition, training_set, estimator="xgboost"):
    ref = fit.run(case, settings, store, partition, training_set=training_set, estimator=estimator)
    return store.manifest(ref)


def test_a_search_helps_later_partitions_only(case, settings, store):
    table = training_table()
    training_set = committed(store, table, PARTITION, case)
    before = fitted(case, settings, store, PARTITION, training_set)
    ref = search_hyperparameters.run(case, settings, store, PARTITION)
    assert ref.kind == "hyperparameters"
    assert {entry.path for entry in store.manifest(ref).files} == {"best.json", "trials.csv", "search.html"}
    best = json.loads(store.read(ref, "best.json"))
    assert best["estimators"]["xgboost"]["better"]
    assert best["estimators"]["xgboost"]["trials"] == 6
    assert store.current(case.name, "search_hyperparameters", PARTITION) == ref
    newest_training_day = max(fold["last"] for fold in best["folds"])
    assert newest_training_day < min(
        d.isoformat()
        for d, s in zip(table["partition"].to_pylist(), table["split"].to_pylist(), strict=True)
        if s == "holdout"
    )

    # The partition that was searched on keeps what it had; the next one takes what was found.
    assert best_known(store, case.name, "xgboost", PARTITION) is None
    assert fitted(case, settings, store, PARTITION, training_set).ref == before.ref
    assert "search" not in before.inputs
    after = fitted(case, settings, store, LATER, committed(store, table, LATER, case))
    found = best["estimators"]["xgboost"]["best"]
    assert {name: after.parameters["hyperparameters"][name] for name in found} == found
    assert after.parameters["hyperparameters"]["max_bin"] == 128
    assert list(after.inputs["search"]) == [ref]
    assert after.parameters["search"] == ref.sha256

    # The study goes on where it was: the same bounds find nothing new, more trials do.
    assert search_hyperparameters.run(case, settings, store, PARTITION) == ref
    more = search_hyperparameters.run(case, settings, store, PARTITION, trials=8)
    assert json.loads(store.read(more, "best.json"))["estimators"]["xgboost"]["trials"] == 8

    # A search that finds nothing better than noise is kept as evidence and changes nothing.
    again = search_hyperparameters.run(case, settings, store, LATER, trials=1)
    decision = store.decision(case.name, "search_hyperparameters", LATER)
    assert (decision.status, decision.ref) == ("rejected", again)
    assert best_known(store, case.name, "xgboost", LATER + timedelta(days=1))[1] == more


def test_one_search_of_a_study_at_a_time(case, settings, store):
    committed(store, training_table(), PARTITION, case)
    with (
        study_storage(settings, "toy.logistic_regression"),
        pytest.raises(
            WarehouseUnavailable, match=r"Another process is searching in the study 'toy\.logistic_regression'"
        ),
    ):
        search_hyperparameters.run(case, settings, store, PARTITION)
    search_hyperparameters.run(case, settings, store, PARTITION, trials=1)


def test_a_search_needs_a_training_set(case, settings, store):
    with pytest.raises(PartitionNotReady, match="build_training_set of 2020-01-20 has not run"):
        search_hyperparameters.run(case, settings, store, PARTITION)
