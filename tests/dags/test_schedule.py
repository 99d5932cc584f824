"""Which partition a night is: the scheduled one, and the ones a backfill makes."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

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


@pytest.mark.parametrize(
    ("cutoff", "deadline", "timezone"),
    [
        (3, None, "America/New_York"),
        (0.5, None, "America/New_York"),
        (22, 6, "Europe/Vienna"),
        (1, None, "Europe/Helsinki"),
    ],
)
def test_the_watchdog_finds_each_partition_due_once_also_where_clocks_change(cutoff, deadline, timezone):
    import pendulum
    from airflow.timetables.base import TimeRestriction
    from airflow.timetables.trigger import CronTriggerTimetable

    from nightshift.declare.discovery import load_use_case

    def of_day(hour):
        return time(int(hour), int(hour % 1 * 60))

    use_case = replace(
        load_use_case("flight_delay"), cutoff_time=of_day(cutoff), timezone=timezone, last_partition=None,
        deadline=deadline and of_day(deadline),
    )  # fmt: skip
    timetable = CronTriggerTimetable(use_case.deadline_cron, timezone=timezone)
    restriction = TimeRestriction(earliest=pendulum.datetime(2013, 3, 1), latest=None, catchup=True)
    due, info = [], None
    for _ in range(260):
        info = timetable.next_dagrun_info(
            last_automated_data_interval=info and info.data_interval, restriction=restriction
        )
        due.append(use_case.due_partition(info.run_after))
    assert sorted(set(due)) == [due[0] + timedelta(days=n) for n in range((due[-1] - due[0]).days + 1)]
    assert len(due) - len(set(due)) <= 1


def test_the_watchdog_of_a_replay_ends_with_its_last_partition(dag_bag):
    from nightshift.declare.discovery import load_use_case

    flights = load_use_case("flight_delay")
    assert dag_bag.dags["flight_delay.watchdog"].end_date == flights.deadline_of(flights.last_partition)
