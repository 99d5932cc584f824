"""Which partition a night is: the scheduled one, and the ones a backfill makes."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from support.errors import raises_code

INGEST = Path(__file__).resolve().parents[2] / "dags" / "ingest.py"
DAY = timedelta(days=1)
CHANGES = {
    "America/New_York": (date(2018, 3, 11), date(2018, 11, 4)),
    "Europe/Helsinki": (date(2018, 3, 25), date(2018, 10, 28)),
    "Europe/London": (date(2018, 3, 25), date(2018, 10, 28)),
    "Australia/Lord_Howe": (date(2018, 4, 1), date(2018, 10, 7)),
    "America/Sao_Paulo": (date(2018, 2, 18), date(2018, 11, 4)),
    "Pacific/Auckland": (date(2018, 4, 1), date(2018, 9, 30)),
    "Asia/Kolkata": (),
    "UTC": (),
}
"""The days of 2018 on which the clocks of a zone change, at their beginning in São Paulo."""
CUTOFFS = [
    # Also the last minute before, and the first after, those that a change skips or repeats.
    ("America/New_York", time(3)),
    ("America/New_York", time(0, 59)),
    ("Europe/Helsinki", time(2, 59)),
    ("Europe/Helsinki", time(4)),
    ("Europe/London", time(0, 30)),
    ("Europe/London", time(2)),
    ("Australia/Lord_Howe", time(1, 29)),
    ("Australia/Lord_Howe", time(2, 30)),
    ("America/Sao_Paulo", time(1)),
    ("America/Sao_Paulo", time(22, 59)),
    ("Pacific/Auckland", time(3)),
    ("Pacific/Auckland", time(23, 59)),
    ("Asia/Kolkata", time(3)),
    ("UTC", time(0)),
]
AROUND_CHANGES = [
    pytest.param(zone, cutoff, change, id=f"{zone} {cutoff} {change}")
    for zone, cutoff in CUTOFFS
    for change in CHANGES[zone] or (date(2018, 3, 25),)
]


def as_scheduled(dag):
    """A DAG as the scheduler sees it."""
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(DagSerialization.to_dict(dag))


@pytest.fixture(scope="module")
def scheduled(dag_bag):
    return as_scheduled(dag_bag.dags["flight_delay.ingest"])


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


@pytest.fixture(scope="module")
def of_zones(dag_bag):
    """By zone and cutoff: a use case, and the DAG that dags/ingest.py makes of it as the scheduler sees it."""
    from nightshift.declare import discovery

    flights = replace(discovery.load_use_case("flight_delay"), first_partition=date(2018, 1, 1), last_partition=None)
    use_cases = [
        replace(flights, name=f"zone_{number}", timezone=zone, cutoff_time=cutoff)
        for number, (zone, cutoff) in enumerate(CUTOFFS)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discovery, "all_use_cases", lambda: use_cases)
        dags = type(dag_bag)(str(INGEST)).dags
    return {
        (use_case.timezone, use_case.cutoff_time): (use_case, as_scheduled(dags[f"{use_case.name}.ingest"]))
        for use_case in use_cases
    }


@pytest.mark.parametrize("late", [timedelta(seconds=1), timedelta(hours=22)])
@pytest.mark.parametrize(("zone", "cutoff", "change"), AROUND_CHANGES)
def test_each_day_has_one_run_at_its_local_cutoff_across_dst(of_zones, zone, cutoff, change, late, monkeypatch):
    """Also if the scheduler is late for each of them, by less than a day."""
    use_case, dag = of_zones[zone, cutoff]
    days = [change + n * DAY for n in range(-7, 7)]
    cutoffs = [datetime.combine(day + DAY, cutoff, ZoneInfo(zone)) for day in days]
    assert len({at.utcoffset() for at in cutoffs}) == (2 if CHANGES[zone] else 1)

    # As the scheduler does: after it has created a run, it looks for the next one, and creates it when that is due.
    runs, info, now = [], None, cutoffs[0].astimezone(UTC) + late
    monkeypatch.setattr("airflow.timetables.trigger.utcnow", lambda: now)
    for _ in days:
        info = dag.next_dagrun_info(last_automated_run_info=info)
        runs.append((info.partition_key, info.run_after))
        now = info.run_after + late
    assert runs == [(day.isoformat(), at.astimezone(UTC)) for day, at in zip(days, cutoffs, strict=True)]
    assert [use_case.cutoff(day) for day in days] == [at for _, at in runs]


@pytest.mark.parametrize("before", [timedelta(days=3), timedelta(hours=1), timedelta()])
def test_the_first_scheduled_partition_is_the_first_that_is_delivered(of_zones, before, monkeypatch):
    """However long before its cutoff the DAG is unpaused."""
    for use_case, dag in of_zones.values():
        first = use_case.cutoff(use_case.first_partition)
        monkeypatch.setattr("airflow.timetables.trigger.utcnow", lambda now=first - before: now)
        info = dag.next_dagrun_info(last_automated_run_info=None)
        assert (info.partition_key, info.run_after) == (use_case.first_partition.isoformat(), first)


@pytest.mark.parametrize(("zone", "cutoff", "change"), AROUND_CHANGES)
def test_a_backfill_of_one_day_has_one_run_across_dst(of_zones, zone, cutoff, change):
    """With the bounds that `AirflowApi.backfill` names."""
    _, dag = of_zones[zone, cutoff]
    for day in (change + n * DAY for n in range(-7, 7)):
        start = datetime.combine(day, time(), UTC)
        infos = dag.iter_dagrun_infos_between(start, start + DAY - timedelta(seconds=1))
        assert [info.partition_key for info in infos] == [day.isoformat()]


@pytest.mark.parametrize(
    ("zone", "cutoff", "day"),
    [
        ("America/New_York", time(2, 30), "2018-03-11"),
        ("America/New_York", time(1, 30), "2018-11-04"),
        ("Europe/London", time(1), "2018-03-25"),
        ("Europe/Helsinki", time(3, 59), "2018-03-25"),
        ("Australia/Lord_Howe", time(2), "2018-10-07"),
        ("Australia/Lord_Howe", time(1, 59), "2018-04-01"),
        ("America/Sao_Paulo", time(0, 30), "2018-11-04"),
        ("America/Sao_Paulo", time(23), "2018-02-17"),
    ],
)
def test_no_use_case_has_a_cutoff_that_some_day_skips_or_repeats(zone, cutoff, day):
    """Of a skipped one, Airflow would lose a partition and run the next one twice; a repeated one, it would run an hour
    after the cutoff that steps go by."""
    from nightshift.declare.discovery import load_use_case
    from nightshift.errors import ConfigurationError

    flights = load_use_case("flight_delay")
    with raises_code(ConfigurationError, "NS-USECASE-008", day):
        replace(flights, first_partition=date(2018, 1, 1), timezone=zone, cutoff_time=cutoff)


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
