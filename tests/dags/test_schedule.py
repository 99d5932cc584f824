"""Which partition a night is: the scheduled one, and the ones a backfill makes."""

from datetime import UTC, datetime

import pytest


@pytest.fixture(scope="module")
def scheduled(dag_bag):
    """The ingest DAG as the scheduler sees it."""
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(DagSerialization.to_dict(dag_bag.dags["flight_delay.ingest"]))


def nights(scheduled, count):
    import pendulum
    from airflow.timetables.base import TimeRestriction

    restriction = TimeRestriction(earliest=pendulum.datetime(2013, 3, 9, 8), latest=None, catchup=True)
    info = None
    for _ in range(count):
        info = scheduled.timetable.next_dagrun_info_v2(last_dagrun_info=info, restriction=restriction)
        yield info.partition_key, info.run_after


def test_partition_runs_at_three_local_time_across_dst(scheduled):
    assert list(nights(scheduled, 3)) == [
        ("2013-03-08", datetime(2013, 3, 9, 8, tzinfo=UTC)),
        ("2013-03-09", datetime(2013, 3, 10, 7, tzinfo=UTC)),
        ("2013-03-10", datetime(2013, 3, 11, 7, tzinfo=UTC)),
    ]


def test_a_backfill_ends_before_the_day_its_end_names(scheduled):
    first, end = datetime(2013, 3, 8, tzinfo=UTC), datetime(2013, 3, 11, tzinfo=UTC)
    keys = [info.partition_key for info in scheduled.iter_dagrun_infos_between(first, end)]
    assert keys == ["2013-03-08", "2013-03-09", "2013-03-10"]


def test_a_replay_of_the_past_schedules_nothing_today(dag_bag):
    from nightshift.declare.discovery import load_use_case

    last = load_use_case("flight_delay").last_partition
    assert last is not None
    assert dag_bag.dags["flight_delay.ingest"].end_date.date() > last
    assert dag_bag.dags["flight_delay.ingest"].catchup is False
