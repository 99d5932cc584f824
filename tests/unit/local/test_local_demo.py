"""The demo against an Airflow API made up of recorded runs."""

from datetime import UTC, date, datetime

import pytest

from nightshift.declare.discovery import load_use_case
from nightshift.errors import ConfigurationError
from nightshift.local import demo, landing
from nightshift.local.airflow_api import DagRun, TaskRun
from nightshift.local.demo import DemoFailed, Nights, Plan, Progress
from nightshift.local.landing import land
from nightshift.local.summary import table
from nightshift.pipeline import NIGHTLY
from support.errors import raises_code

FIRST, LAST = date(2013, 1, 1), date(2013, 1, 30)


def task_of(run, task_id, state, try_number=1, map_index=-1):
    identity = {"dag_id": run.dag_id, "dag_run_id": run.dag_run_id, "task_id": task_id, "map_index": map_index}
    return TaskRun(**identity, state=state, try_number=try_number)


class FakeApi:
    """Airflow in a dict: what is asked for succeeds at once, unless told otherwise."""

    def __init__(self, failing=()):
        self.done: dict[tuple[str, str | None], str] = {}
        self.failing = set(failing)
        self.asked: list[str] = []
        self.busy = 0
        self.conf: dict[str, dict[str, str]] = {}

    def _run(self, dag_id, key):
        name = f"{dag_id}|{key}"
        state, conf = self.done[dag_id, key], self.conf.get(dag_id, {})
        return DagRun(dag_id=dag_id, dag_run_id=name, state=state, partition_key=key, conf=conf)

    def _finish(self, dag_id, key):
        self.done[dag_id, key] = "failed" if (dag_id, key) in self.failing else "success"

    def dag_ids(self):
        return {f"flight_delay.{stage}" for stage in (*NIGHTLY, "watchdog", "backfill_history")}

    def unpause(self, dag_id):
        self.asked.append(f"unpause {dag_id}")

    def trigger(self, dag_id, conf):
        self.asked.append(f"trigger {dag_id} {conf['first']} {conf['last']}")
        self.conf[dag_id] = conf
        self._finish(dag_id, None)
        self._finish("flight_delay.train", conf["last"])
        return self._run(dag_id, None)

    def backfill(self, dag_id, first, last, *, max_active_runs, reprocess):
        if self.busy:
            self.busy -= 1
            return None
        self.asked.append(f"backfill {dag_id} {first} {last} {max_active_runs} {reprocess}")
        for day in range(first.toordinal(), last.toordinal() + 1):
            for stage in NIGHTLY:
                self._finish(f"flight_delay.{stage}", date.fromordinal(day).isoformat())
        return 1

    def run(self, dag_id, run_id):
        return self._run(dag_id, None)

    def runs(self, dag_id):
        return [self._run(d, k) for d, k in self.done if d == dag_id]

    def newest_runs(self, dag_id):
        return {k: self._run(d, k) for d, k in self.done if d == dag_id and k}

    def clear_failed(self, run):
        self.asked.append(f"clear {run.dag_id} {run.partition_key}")
        self.done[run.dag_id, run.partition_key] = "success"

    def tasks(self, run):
        return [
            task_of(run, "fit", "failed", 2),
            task_of(run, "verify", "upstream_failed", 0),
            task_of(run, "record_failure", "failed", 1),
        ]

    def log_lines(self, task):
        return [f"line {n} of {task.task_id}" for n in range(50)]


class FakeStack:
    def environment(self):
        return {
            "AIRFLOW_API_URL": "http://localhost:1",
            "NIGHTSHIFT_UI_USER": "admin",
            "NIGHTSHIFT_UI_PASSWORD": "not printed",
        }

    def status(self):
        return []


@pytest.fixture
def said():
    return []


@pytest.fixture
def nights(said, monkeypatch):
    monkeypatch.setattr(demo, "POLL_SECONDS", 0.001)
    plan = Plan.of(load_use_case("flight_delay"), FIRST, LAST, 2)
    made = Nights(plan, FakeStack(), Progress(say=said.append))
    made.api = FakeApi()
    return made


def test_plan_runs_the_nights_after_the_history():
    plan = Plan.of(load_use_case("flight_delay"), FIRST, LAST, 2)
    assert plan.history[0] == FIRST
    assert plan.history[-1] == LAST
    assert plan.nights == [date(2013, 1, 31), date(2013, 2, 1)]


@pytest.mark.parametrize(("first", "last", "nights"), [(LAST, FIRST, 2), (FIRST, LAST, 0)])
def test_empty_plan_is_an_error(first, last, nights):
    with raises_code(ConfigurationError, "NS-LOCAL-004"):
        Plan.of(load_use_case("flight_delay"), first, last, nights)


def test_second_demo_starts_no_run(nights):
    nights.load_history()
    nights.run_nights()
    assert "trigger flight_delay.backfill_history 2013-01-01 2013-01-30" in nights.api.asked
    assert "backfill flight_delay.ingest 2013-01-31 2013-02-01 1 none" in nights.api.asked
    nights.api.asked.clear()
    nights.load_history()
    nights.run_nights()
    assert all(words.startswith("unpause") for words in nights.api.asked)


def test_failed_night_names_first_failed_task_and_log(nights):
    nights.api.failing = {("flight_delay.train", "2013-02-01")}
    nights.load_history()
    with raises_code(DemoFailed, "NS-LOCAL-008", "flight_delay.train", "2013-02-01", "task fit (try 2)") as told:
        nights.run_nights()
    lines = told.value.message.splitlines()
    assert lines[-3].strip() == "line 49 of fit"
    assert lines[-2].endswith("/dags/flight_delay.train/runs/flight_delay.train%7C2013-02-01/tasks/fit")


def test_what_failed_before_is_run_again(nights):
    nights.load_history()
    nights.run_nights()
    nights.api.done["flight_delay.predict", "2013-02-01"] = "failed"
    nights.api.asked.clear()
    nights.run_nights()
    assert nights.api.asked == ["clear flight_delay.predict 2013-02-01"]


def test_a_history_that_failed_goes_on_where_it_was(nights):
    history, train = "flight_delay.backfill_history", "flight_delay.train"
    nights.api.failing = {(history, None)}
    with raises_code(DemoFailed, "NS-LOCAL-008"):
        nights.load_history()
    del nights.api.done[train, "2013-01-30"]
    nights.api.asked.clear()
    nights.api.clear_failed = lambda run: (nights.api.asked.append(f"clear {run.dag_id}"), nights.api.finish_all())
    nights.api.finish_all = lambda: nights.api.done.update(
        {(history, None): "success", (train, "2013-01-30"): "success"}
    )
    nights.load_history()
    assert [words for words in nights.api.asked if not words.startswith("unpause")] == [f"clear {history}"]


def test_another_backfill_is_waited_for(nights, said):
    nights.load_history()
    nights.api.busy = 3
    nights.run_nights()
    assert any("another backfill" in line for line in said)


def test_progress_ends_when_nothing_moves(said, monkeypatch):
    monkeypatch.setattr(demo, "STUCK_SECONDS", -1.0)
    progress = Progress(say=said.append)
    with raises_code(DemoFailed, "NS-LOCAL-005"):
        progress.wait("nights: score of 2013-02-01")


def test_what_is_under_way_is_said_after_a_while(said, monkeypatch):
    progress = Progress(say=said.append)
    progress.wait("nights: score of 2013-02-01")
    assert said == []
    monkeypatch.setattr(demo, "SAY_EVERY_SECONDS", -1.0)
    progress.wait("nights: score of 2013-02-01")
    assert said == ["[ 0:00] nights: score of 2013-02-01"]


def test_each_run_that_succeeds_is_one_line(nights, said):
    nights.load_history()
    nights.run_nights()
    assert "[ 0:00] nights: all done." in said
    said.clear()
    polls = iter([0, 1, 2, 2])
    keys = ["2013-01-31", "2013-02-01"]

    def runs():
        done = next(polls)
        return [nights.api._run("flight_delay.predict", key) for key in keys[:done]]

    nights._follow(runs, "nights", expected=2)
    assert [line[8:] for line in said] == [
        "flight_delay.predict of 2013-01-31: done",
        "flight_delay.predict of 2013-02-01: done",
        "nights: all done.",
    ]


def test_waiting_task_is_printed_once_and_late(nights, said):
    run = DagRun(dag_id="flight_delay.predict", dag_run_id="r", state="running", partition_key="2013-02-01")

    def waiting(number):
        return [(run, [task_of(run, "resolve_model", "up_for_retry", number)])]

    for number in range(1, 9):
        assert nights._under_way(waiting(number), "nights", 2) == "predict of 2013-02-01: resolve_model"
        assert nights._under_way(waiting(number), "nights", 2)
    assert [line[8:] for line in said] == [
        "flight_delay.predict of 2013-02-01: resolve_model is still waiting: line 49 of resolve_model"
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "PartitionNotReady: NS-TRAIN-006: no features of 1 May. Run it",
            "no features of 1 May",
        ),
        ("PartitionNotReady: NS-PREDICT-001: train is undecided; results depend on it. Run it.", "train is undecided"),
        ("AirflowException: PartitionNotReady: NS-STORE-005: no record. (will be retried)", "no record"),
        (
            "OperationalError: no route. Try again",
            "OperationalError: no route. Try again",
        ),
        ("Task exited; it is retried.", "Task exited; it is retried."),
    ],
)
def test_a_waiting_task_says_what_it_waits_for_and_no_more(line, reason):
    assert demo._reason(line) == reason


def test_the_tasks_of_a_single_run_are_said_as_they_are_done(nights, said):
    run = DagRun(dag_id="flight_delay.backfill_history", dag_run_id="r", state="running")

    def states(*of_chunks):
        chunks = [task_of(run, "ingest_history", state, map_index=n) for n, state in enumerate(of_chunks)]
        return [(run, [*chunks, task_of(run, "record_failure", "skipped", 0)])]

    assert nights._under_way(states("success", "running", None), "history", 1) == "ingest_history (1 of 3 done)"
    assert said == []
    assert nights._under_way(states("success", "success", "success"), "history", 1) == ""
    assert [line[8:] for line in said] == ["history: ingest_history done (3)"]


class FakeStore:
    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.puts = 0

    def list(self, prefix):
        from nightshift.io.object_store import ObjectInfo

        modified = datetime(2013, 4, 1, tzinfo=UTC)
        return [ObjectInfo(key, len(body), modified) for key, body in self.objects.items() if key.startswith(prefix)]

    def get(self, key):
        return self.objects.get(key)

    def put(self, key, body):
        self.puts += 1
        self.objects[key] = body
        return True


def test_landing_writes_only_what_changed(monkeypatch):
    def deliveries(partition):
        for feed in ("flights", "weather"):
            yield feed, partition.isoformat(), f"{feed}.csv", f"{feed} of {partition}".encode()

    monkeypatch.setattr(landing, "producer", lambda use_case: deliveries)
    store, use_case, said = FakeStore(), load_use_case("flight_delay"), []
    monkeypatch.setattr(landing, "SAY_EVERY", 1)
    partitions = [FIRST, date(2013, 1, 2)]
    written = land(store, use_case, partitions, said.append)
    assert written == store.puts == len(store.objects)
    assert said == [
        "1 of 2 partitions landed.",
        "2 of 2 partitions landed.",
        f"{written} files written, 0 existed already.",
    ]
    assert "landing/flight_delay/flights/dt=2013-01-01/flights.csv" in store.objects

    key = "landing/flight_delay/weather/dt=2013-01-02/weather.csv"
    original = store.objects[key]
    store.objects[key] = bytes(len(original))
    assert land(store, use_case, partitions, said.append) == 1
    assert said[-1] == f"1 files written, {written - 1} existed already."
    assert store.objects[key] == original


def test_a_use_case_without_a_producer_says_where_to_land(monkeypatch):
    from dataclasses import replace

    orphan = replace(load_use_case("flight_delay"), name="orphan_case")
    with raises_code(ConfigurationError, "NS-USECASE-022", "landing/orphan_case/<feed>/dt=<partition>/"):
        land(FakeStore(), orphan, [FIRST], print)


def test_table_puts_numbers_to_the_right_and_words_to_the_left():
    lines = [
        {"night": "2013-05-31", "published": "1,003", "drift": "stable"},
        {"night": "2013-06-01", "published": "-", "drift": "drifted: data (3)"},
    ]
    assert table(lines).splitlines() == [
        "night       published  drift",
        "----------  ---------  -----------------",
        "2013-05-31      1,003  stable",
        "2013-06-01          -  drifted: data (3)",
    ]
