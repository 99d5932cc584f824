"""A search on real services: the study, a race over origins, full verification of the front, and the candidates."""

import dataclasses
from datetime import timedelta

import psycopg
import pytest

from nightshift.declare.policies import SearchPolicy
from nightshift.documents.search import Candidates, Comparison, Race, RaceOrigin, StudyResult
from nightshift.documents.train import TrainingSet
from nightshift.errors import DataContractError, PartitionNotReady
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.candidates import candidate_specs
from nightshift.steps.context import StepContext
from nightshift.steps.search import (
    find_training_set,
    plan_race,
    race,
    report_search,
    select_candidates,
    study,
)
from nightshift.steps.train import fit, verify
from support.errors import raises_code
from support.synthetic_training_set import DAYS, FIRST, training_table, use_case

PARTITION = FIRST + timedelta(days=DAYS)
SEARCH = SearchPolicy(trials=3, seconds=60.0, folds=2, fold_days=3, origins=2, origin_days=3)


@pytest.fixture
def case(settings):
    made = use_case(techniques=("distilled_additive", "xgboost_int8"), minimum_days=10)
    made = dataclasses.replace(made, search=SEARCH)
    Warehouse(settings, made).migrate()
    yield made
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        connection.execute("DROP SCHEMA IF EXISTS optuna CASCADE")


def known_rows(table):
    import pyarrow as pa

    table = table.drop_columns([name for name in ("split", "known_on") if name in table.column_names])
    known = [day + timedelta(days=1) for day in table["partition"].to_pylist()]
    return table.append_column("known_on", pa.array(known, pa.date32()))


def committed(store, case, table, partition=PARTITION):
    """Rows as artifacts of `append_training_rows` and `build_training_set`."""
    days = sorted(set(table["partition"].to_pylist()))
    common = {"use_case": case.name, "partition": partition}
    part = store.commit(
        **common, step="append_training_rows", kind="training_rows", files={"rows.parquet": known_rows(table)}
    )
    found = TrainingSet(
        partition=partition,
        parts=(part,),
        rows=table.num_rows,
        first=days[0] + timedelta(days=1),
        last=days[-1] + timedelta(days=1),
        label=case.label,
    )
    return store.commit(
        **common, step="build_training_set", kind="training_set", files=found.to_files(), inputs={"rows": [part]}
    )


def test_a_search_leaves_candidates_on_the_front(case, settings, store):
    given = (case, settings, store, PARTITION)
    with raises_code(PartitionNotReady, "NS-STORE-019", "build_training_set of 2020-01-21"):
        find_training_set.run(StepContext(*given))
    training_set = committed(store, case, training_table())
    assert find_training_set.run(StepContext(*given)) == training_set
    rows = {"training_set": training_set}

    studied = study.run(StepContext(*given), **rows)
    found = store.read_document(studied, StudyResult)
    assert found.last < FIRST + timedelta(days=DAYS - 6)
    assert len(found.estimators["xgboost"].trials) == 3
    assert study.run(StepContext(*given), **rows) == studied

    origins = plan_race.run(StepContext(*given), **rows, studied=studied)
    plans = [store.read_document(ref, RaceOrigin) for ref in origins]
    assert [plan.measured for plan in plans] == [False, True]
    # Nothing that the study looked at is scored in the race.
    assert min(plans[0].scored) > plans[0].origin > found.last

    raced = [race.run(StepContext(*given), **rows, origin=origin) for origin in origins]
    assert {one.spec.name for one in store.read_document(raced[0], Race).specs} >= {"champion", "additive", "fallback"}
    selected = select_candidates.run(StepContext(*given), raced=raced)
    comparison = store.read_document(store.manifest(selected[0]).inputs["comparison"][0], Comparison)
    assert store.manifest(selected[0]).variant == comparison.chosen
    assert len(comparison.partitions) == 6
    assert {store.manifest(ref).variant for ref in selected} == {
        one.spec.spec_id for one in comparison.specs if one.on_front
    }

    versions = [fit.run(StepContext(*given), **rows, spec=spec) for spec in selected]
    verified = [verify.run(StepContext(*given), **rows, version=version) for version in versions]
    ref = report_search.run(StepContext(*given), studied=studied, selected=selected, verified=verified)
    candidates = store.read_document(ref, Candidates)
    assert candidates.specs[0].chosen
    assert {entry.path for entry in store.manifest(ref).files} == {"candidates.json", "search.csv", "search.html"}
    passed = [one.spec for one in candidates.specs if not one.failed]
    assert list(candidate_specs(store, case, PARTITION).values()) == passed
    assert candidate_specs(store, case, PARTITION - timedelta(days=1)) == {}


def test_more_trials_begin_with_the_same_ones(case, settings, store):
    given = (case, settings, store, PARTITION)
    training_set = committed(store, case, training_table())
    first = store.read_document(study.run(StepContext(*given), training_set=training_set), StudyResult)
    more = store.read_document(study.run(StepContext(*given), training_set=training_set, trials=5), StudyResult)
    assert more.estimators["xgboost"].trials[:3] == first.estimators["xgboost"].trials
    assert len(more.estimators["xgboost"].trials) == 5


def test_a_race_needs_history(case, settings, store):
    training_set = committed(store, case, training_table())
    short = dataclasses.replace(case, search=dataclasses.replace(SEARCH, origins=6))
    with raises_code(DataContractError, "NS-SEARCH-003"):
        study.run(StepContext(short, settings, store, PARTITION), training_set=training_set)
