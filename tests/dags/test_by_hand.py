"""What people fill in, and who they are, as it reaches the steps."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from nightshift.declare.discovery import load_use_case
from nightshift.documents.rules import AppliedRules, RuleOutcome
from nightshift.errors import ConfigurationError
from support.errors import raises_code

TRIGGERED = datetime(2013, 6, 4, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def params(dag_bag):
    from dagkit import params

    return params


@pytest.fixture
def run(set_context, monkeypatch):
    """Makes the current task's context one of a run with these properties."""

    def make(filled_in=None, *, partition_key=None, user=None, run_type="manual", newest=None):
        dag_run = SimpleNamespace(
            partition_key=partition_key,
            triggering_user_name=user,
            run_type=run_type,
            run_id="manual__1",
            run_after=TRIGGERED,
        )
        set_context({"params": filled_in or {}, "dag_run": dag_run})
        published = {TRIGGERED: newest}
        monkeypatch.setattr("nightshift.io.warehouse.warehouse.Warehouse.newest_published", lambda _, by: published[by])

    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENT", "test")
    monkeypatch.setenv("NIGHTSHIFT_BUCKET", "bucket")
    monkeypatch.setenv("NIGHTSHIFT_WAREHOUSE_URL", "postgresql://nobody@127.0.0.1:1/none")
    from nightshift.settings import load_settings

    load_settings.cache_clear()
    yield make
    load_settings.cache_clear()


def partition(params):
    return params.partition_of_run(load_use_case("flight_delay")).isoformat()


def test_order_in_which_the_partition_is_resolved(params, run):
    from datetime import date

    newest = date(2013, 6, 3)
    run({"partition": "2013-06-01"}, partition_key="2013-05-31", newest=newest)
    assert partition(params) == "2013-05-31"
    run({"partition": "2013-06-01"}, newest=newest)
    assert partition(params) == "2013-06-01"
    run({"partition": None}, newest=newest)
    assert partition(params) == "2013-06-03"
    run({"last": "2013-03-02"}, newest=newest)
    assert partition(params) == "2013-03-02"


def test_nightly_run_requires_a_partition(params, run):
    from datetime import date

    run({}, newest=date(2013, 6, 3))
    with raises_code(ConfigurationError, "NS-SETTINGS-004"):
        partition(params)


def test_without_publications_forms_explain_and_schedules_skip(params, run):
    from airflow.sdk.exceptions import AirflowSkipException

    run({"partition": None})
    with raises_code(ConfigurationError, "NS-SETTINGS-005"):
        partition(params)
    run({"partition": None}, run_type="scheduled")
    with pytest.raises(AirflowSkipException, match="published no predictions"):
        partition(params)


def test_step_gets_params_and_defaults(params, run):
    run({"reason": "broken", "to_spec": None, "partition": None}, user="anna")
    arguments = params.filled_in("reason", "to_spec", signed=True)
    assert arguments({}) == {"reason": "broken", "decided_by": "hand:anna"}
    assert params.filled_in("reason")({}) == {"reason": "broken"}


@pytest.mark.parametrize(
    ("user", "run_type", "who"),
    [
        ("anna", "manual", "hand:anna"),
        ("anna", "scheduled", "hand:anna"),
        (None, "scheduled", "hand:scheduler"),
        (None, "asset_triggered", "hand:scheduler"),
    ],
)
def test_who_decides_is_who_triggered_the_run(params, run, user, run_type, who):
    run(user=user, run_type=run_type)
    assert params.who_decides() == who


def test_person_is_required(params, run, caplog):
    run()
    with caplog.at_level("WARNING"):
        assert params.who_decides() == "hand:unknown"
    assert "manual__1" in caplog.text


def test_the_real_run_context_names_the_user_and_the_kind_of_run():
    """The names above are Airflow's."""
    from airflow.sdk.api.datamodels._generated import DagRun, DagRunType

    assert {"triggering_user_name", "run_type", "partition_key", "run_after"} <= set(DagRun.model_fields)
    assert {"manual", "scheduled", "asset_triggered"} <= set(DagRunType)
    assert DagRunType.MANUAL == "manual"


@pytest.mark.parametrize(
    ("then", "acted", "day", "due"),
    [
        ("search", False, "2013-06-01", False),
        ("alert", True, "2013-06-01", False),
        ("search", True, "2013-06-01", True),
        ("alert", False, "2013-06-02", True),
    ],
)
def test_a_search_is_due_on_its_weekday_and_if_a_rule_requests_it(dag_bag, run, monkeypatch, then, acted, day, due):
    from airflow.sdk.exceptions import AirflowSkipException

    from dagkit.steps import skip_unless_search_is_due

    sunday = 6
    assert load_use_case("flight_delay").search.weekday == sunday
    run(partition_key=day)
    record = {"uri": "s3://bucket/a/", "sha256": "0" * 64, "kind": "rules"}
    outcome = RuleOutcome(rule="one", then=then, at_least=1, of_last=1, fired=True, matches=(), acted=acted)
    document = AppliedRules(partition=day, outcomes=(outcome,), message="")
    store = SimpleNamespace(read_document=lambda ref, kind: {AppliedRules: document}[kind])
    monkeypatch.setattr("dagkit.steps.open_store", lambda: store)
    if due:
        skip_unless_search_is_due("flight_delay", record)
    else:
        with pytest.raises(AirflowSkipException):
            skip_unless_search_is_due("flight_delay", record)


@pytest.mark.parametrize(
    ("stage", "field", "value", "valid"),
    [
        ("rollback_model", "to_spec", "blend_2-0123abcd", True),
        ("rollback_model", "to_spec", None, True),
        ("rollback_model", "to_spec", "2013-06-01-0123abcd", False),
        ("retire_model", "spec_or_version", "2013-06-01-0123abcd", True),
        ("retire_model", "spec_or_version", "blend_2-0123abcd", True),
        ("retire_model", "spec_or_version", "blend_2", False),
        ("retire_model", "spec_or_version", "2013-06-01-0123abcd; x", False),
    ],
)
def test_what_a_spec_field_takes(dag_bag, stage, field, value, valid):
    from airflow.sdk.exceptions import ParamValidationError

    param = dag_bag.dags[f"flight_delay.{stage}"].params.get_param(field)
    if valid:
        assert param.resolve(value=value) == value
    else:
        with pytest.raises(ParamValidationError):
            param.resolve(value=value)
