"""Maintenance deletes by itself once a week, and by hand only if it is told to."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from nightshift.io.object_store import ObjectInfo

ORPHAN = ObjectInfo("flight_delay/train/fit/2013-03-01/0123456789abcdef/x", 7, datetime(2013, 3, 2, tzinfo=UTC))


@pytest.fixture
def swept(dag_bag, set_context, monkeypatch):
    """Runs the task; returns the days, whether orphans were deleted, and what the task returns."""

    def run(run_type, **filled):
        dag = dag_bag.dags["flight_delay.maintenance"]
        params = {name: dag.params.get_param(name).value for name in dag.params} | filled
        set_context({"params": params, "dag_run": SimpleNamespace(run_type=run_type)})
        seen = []

        def sweep(use_case, settings, store, *, days, delete):
            seen.append((use_case.name, days, delete))
            return [ORPHAN]

        monkeypatch.setattr("nightshift.services.orphans.sweep", sweep)
        monkeypatch.setattr("nightshift.settings.load_settings", lambda: None)
        store = SimpleNamespace(uri=lambda key: f"s3://bucket/{key}")
        monkeypatch.setattr("dagkit.maintenance.open_store", lambda: store)
        said = dag.get_task("sweep_orphans").python_callable("flight_delay")
        ((name, days, delete),) = seen
        assert name == "flight_delay"
        return days, delete, said

    return run


def test_by_hand_it_lists(swept):
    assert swept("manual") == (30, False, "1 orphans found")
    assert swept("manual", delete=True, days=60) == (60, True, "1 orphans deleted")


def test_scheduled_it_deletes(swept):
    assert swept("scheduled") == (30, True, "1 orphans deleted")


def test_it_runs_weekly_also_after_the_last_partition(dag_bag):
    import pendulum
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables.base import TimeRestriction

    dag = dag_bag.dags["flight_delay.maintenance"]
    assert (dag.end_date, dag.catchup, dag.max_active_runs) == (None, False, 1)
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    restriction = TimeRestriction(earliest=pendulum.datetime(2026, 6, 1), latest=None, catchup=True)
    info, times = None, []
    for _ in range(2):
        info = timetable.next_dagrun_info_v2(last_dagrun_info=info, restriction=restriction)
        times.append(info.run_after)
    assert [(one.isoweekday(), one - times[0]) for one in times] == [(7, timedelta(0)), (7, timedelta(days=7))]
