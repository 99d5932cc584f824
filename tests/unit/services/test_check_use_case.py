"""`nightshift check`: each mistake in a declaration is found without services, with its file and what to do."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import pytest

from nightshift import cli
from nightshift.core.checks.declaration_checks import data_faults, policy_faults
from nightshift.core.checks.faults import Fault
from nightshift.declare.discovery import load_use_case
from nightshift.declare.policies import AttackPolicy, AuditPolicy, DriftPolicy, PromotionPolicy, TrainingPolicy
from nightshift.services.check_use_case import check
from nightshift.services.preflight import Check
from nightshift.settings import load_settings

SECOND = Path(__file__).resolve().parents[2] / "second_use_case"
NUMBERS = itertools.count()
USE_CASE, FEAST, BOOKING, BOOKINGS = "use_case.py", "feature_repo", "sql/booking.sql", "sql/bookings.sql"


class Copy:
    """The second use case under a name of its own, to plant mistakes in."""

    def __init__(self, root: Path) -> None:
        # A package that was imported once is not looked for again.
        self.name = f"late_returns_{next(NUMBERS)}"
        self.folder, self.feast = root / "include" / self.name, root / "feature_repo" / f"{self.name}.py"
        shutil.copytree(SECOND / "include" / "late_returns", self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.feast.parent.mkdir()
        shutil.copy(SECOND / "feature_repo" / "late_returns.py", self.feast)
        for path in (self.folder / USE_CASE, self.feast):
            path.write_text(path.read_text().replace("late_returns.", f"{self.name}."))
        self.plant(USE_CASE, 'name="late_returns"', f'name="{self.name}"')

    def path(self, file: str) -> Path:
        return self.feast if file == FEAST else self.folder / file

    def plant(self, file: str, old: str, new: str) -> int:
        """Replace a text that is there once; returns its line."""
        text = self.path(file).read_text()
        assert text.count(old) == 1, (file, old)
        self.path(file).write_text(text.replace(old, new))
        return text[: text.index(old)].count("\n") + 1


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(tmp_path))
    return Copy(tmp_path)


@pytest.mark.parametrize("name", ["flight_delay", "late_returns"])
def test_a_good_use_case_has_no_faults(name, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(SECOND))
    assert check(name) == []


MISTAKES = {
    "wrong keyword": (USE_CASE, 'normalise=SQL / "bookings.sql"', 'normalize=SQL / "bookings.sql"', "NS-USECASE-052",
                      "normalise"),
    "syntax error": (USE_CASE, 'label="is_late",', 'label="is_late" "', "NS-USECASE-050", "unterminated"),
    "unknown import": (USE_CASE, "from nightshift.declare.use_case", "from nightshift.declare.usecase",
                       "NS-USECASE-051", "nightshift.declare.usecase"),
    "unknown estimator": (USE_CASE, 'name="linear", estimators=("log', 'name="linear", estimators=("lg', "NS-MODEL-003",
                          "logistic_regression"),
    "unknown technique": (USE_CASE, 'compression=("distilled_xgboost"', 'compression=("distiled_xgboost"',
                          "NS-MODEL-003", "distilled_xgboost"),
    "unknown service": (USE_CASE, 'ModelSpec(name="fallback",', 'ModelSpec(name="fallback", feature_service="v9",',
                        "NS-FEATURE-010", "'v9'"),
    "unknown feature": (USE_CASE, 'numeric=("branch_late_rate",)),\n    ch', 'numeric=("branch_lat",)),\n    ch',
                        "NS-MODEL-001", "branch_late_rate"),
    "parameter names no feature": (USE_CASE, 'ModelSpec(name="linear", estimators=("logistic_regression",))',
                                   'ModelSpec(name="linear", estimators=("two_level",), parameters={"two_level": '
                                   '{"level": ("branch_lat",)}})', "NS-MODEL-025", "branch_late_rate"),
    "bad time zone": (USE_CASE, "Europe/Vienna", "Europe/Wien", "NS-USECASE-010", "'Europe/Wien'"),
    "unknown window": (USE_CASE, "last_partition=", 'window="night", last_partition=', "NS-USECASE-026",
                       "cutoff_to_cutoff"),
    "prediction_date outside the key": (USE_CASE, 'prediction_date="booking_date"', 'prediction_date="day"',
                                        "NS-USECASE-006", "'day'"),
    "wrong column type": (USE_CASE, '"returned_late", "int64"', '"returned_late", "int"', "NS-USECASE-004", "int64"),
    "wrong SQL column": (BOOKINGS, "customer, hours", "customer, hour", "NS-USECASE-044", '"hour"'),
    "SQL returns another type": (BOOKING, "isodow(booking_date)::double", "isodow(booking_date)", "NS-USECASE-047",
                                 "weekday::double"),
    "SQL returns another name": (BOOKING, "as weekday", "as week_day", "NS-USECASE-046", "weekday (double)"),
    "SQL returns an undeclared column": (BOOKING, "as weekday", "as weekday, 1 as one", "NS-USECASE-048", "one"),
    "spine returns a feature": ("sql/scoring_spine.sql", "$partition as", "hours, $partition as", "NS-USECASE-049",
                                "hours"),
    "prelude does not run": ("sql/prelude.sql", "from bookings", "from booking", "NS-USECASE-044", "bookings, returns"),
    "spine lacks a join key": ("sql/scoring_spine.sql", " as booking_key", " as the_key", "NS-USECASE-046",
                               "booking_key"),
    "unknown expectation": (USE_CASE, '"expect_column_values_to_be_in_set"', '"expect_values"', "NS-CURATE-007",
                            "expect_values"),
    "expectation on an absent column": (USE_CASE, '{"column": "hours"', '{"column": "hour"', "NS-CURATE-013", "hours"),
    "quarantine without rows": (USE_CASE, '"expect_column_values_to_be_between"', '"expect_column_mean_to_be_between"',
                                "NS-CURATE-014", "expect_column_mean_to_be_between"),
    "a name that SQL cannot take": (USE_CASE, 'score="p_late"', 'score="p late"', "NS-USECASE-027", "'p late'"),
    "a monitored column with a feature's name": (USE_CASE, 'monitored=("returns_per_day",)',
                                                 'monitored=("branch_late_rate",)', "NS-USECASE-028",
                                                 "branch_late_rate"),
    "a monitored column that SQL cannot take": (USE_CASE, 'monitored=("returns_per_day",)',
                                                'monitored=("returns a day",)', "NS-USECASE-027", "'returns a day'"),
    "a monitored column that the SQL does not return": ("sql/branch_history.sql", "as returns_per_day", "as a_day",
                                                        "NS-USECASE-046", "returns_per_day (double)"),
    "Feast definitions by hand": (FEAST, "globals().update(feast_definitions(USE_CASE))",
                                  "globals().update(feast_definitions(USE_CASE))\nbooking.features.pop()",
                                  "NS-USECASE-058", "customer"),
    "Feast definitions with an error": (FEAST, "import USE_CASE", "import USE_CASES", "NS-USECASE-055", "USE_CASES"),
    "a search technique": (USE_CASE, "holdout_days=4,", 'holdout_days=4, techniques=("tiny",),', "NS-SEARCH-002",
                           "'tiny'"),
}  # fmt: skip
"""Each mistake: file, old and new text, the code of the fault, and a value that the fault names."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found_with_its_file_and_advice(mistake, copy):
    file, old, new, code, named = MISTAKES[mistake]
    line = copy.plant(file, old, new)
    faults = check(copy.name)
    (fault,) = [fault for fault in faults if fault.code == code and named in f"{fault.what} {fault.advice}"]
    assert fault.file == str(copy.path(file))
    assert fault.advice
    if mistake == "Feast definitions by hand":
        assert fault.line is None
    else:
        # The line of the statement that the mistake is in, or of the reason of an expectation.
        assert abs(fault.line - line) <= 3, fault


@pytest.mark.parametrize(
    ("file", "code"), [(BOOKING, "NS-USECASE-053"), ("sql/prelude.sql", "NS-USECASE-053"), (FEAST, "NS-USECASE-054")]
)
def test_a_missing_file_is_found(file, code, copy):
    copy.path(file).unlink()
    (fault,) = check(copy.name)
    assert fault.code == code
    assert str(copy.path(file)) in f"{fault.file} {fault.what}"


def test_a_moment_that_the_spines_do_not_return_is_found(copy):
    copy.plant(USE_CASE, "last_partition=", 'prediction_moment="at", last_partition=')
    faults = check(copy.name)
    assert {fault.code for fault in faults} == {"NS-USECASE-046"}
    assert {Path(fault.file).name for fault in faults} == {"training_spine.sql", "scoring_spine.sql"}


def test_all_faults_are_listed(copy):
    copy.plant(BOOKING, "isodow(booking_date)::double", "isodow(booking_date)")
    copy.plant(BOOKINGS, "customer, hours", "customer, hour")
    copy.plant(USE_CASE, 'score="p_late"', 'score="p late"')
    assert {Path(fault.file).name for fault in check(copy.name)} == {"booking.sql", "bookings.sql", "use_case.py"}


def test_the_command_fails_and_prints_faults_as_json(copy, capsys):
    copy.plant(BOOKING, "isodow(booking_date)::double", "isodow(booking_date)")
    assert cli.main(["check", copy.name, "--json"]) == 1
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert fault["file"].endswith("booking.sql")
    assert fault["code"] == "NS-USECASE-047"
    assert set(fault) == {field.name for field in dataclasses.fields(Fault)}


def test_preflight_checks_use_cases_and_names_broken_ones(copy, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_adopt_local_stack", lambda: (None, None))
    monkeypatch.setattr(
        "nightshift.services.preflight.check", lambda settings, use_cases: [Check("warehouse", True, "here")]
    )
    monkeypatch.setattr("nightshift.settings.load_settings", lambda: None)
    copy.plant(USE_CASE, 'label="is_late",', 'label="is_late" "')
    assert cli.main(["preflight"]) == 1
    out = capsys.readouterr().out
    assert f"MISSING  {copy.folder / USE_CASE}" in out
    assert "ok       use case flight_delay: no faults" in out


@pytest.mark.parametrize(
    ("changes", "code", "at"),
    [
        ({"training": TrainingPolicy(holdout_days=40, minimum_days=100)}, "NS-USECASE-039", "minimum_days"),
        ({"promotion": PromotionPolicy(backtest_partitions=60)}, "NS-USECASE-040", "backtest_partitions"),
        ({"drift": DriftPolicy(windows=())}, "NS-USECASE-037", "windows"),
        ({"drift": DriftPolicy(reference_days=20)}, "NS-USECASE-038", "reference_days"),
        ({"attacks": AttackPolicy(trigger={"hour": 1.0})}, "NS-USECASE-067", "hour"),
        ({"audit": AuditPolicy(mean_score_between=(0.5, 0.1))}, "NS-USECASE-033", "mean_score_between"),
    ],
)
def test_a_policy_that_no_data_can_meet_is_found(changes, code, at, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(SECOND))
    use_case = load_use_case("late_returns")
    assert list(policy_faults(use_case)) == []
    (fault,) = policy_faults(dataclasses.replace(use_case, **changes))
    assert (fault.code, fault.at) == (code, (at,))


def test_a_policy_that_the_rows_of_a_day_cannot_meet_is_found(monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(SECOND))
    use_case = load_use_case("late_returns")
    assert list(data_faults(use_case, [40], 160)) == []
    assert [fault.code for fault in data_faults(use_case, [19], 29)] == ["NS-USECASE-041", "NS-USECASE-042"]


@pytest.fixture
def started(monkeypatch):
    """What `start` did, on a stack and DAGs that do nothing."""
    done = []

    class Stack:
        def __init__(self, say):
            pass

        def up(self):
            done.append("up")

        def environment(self):
            return {}

        def login(self):
            return "the login"

    class Nights:
        def __init__(self, plan, stack, progress):
            self.plan = plan

        def load_history(self):
            done.append(f"history {self.plan.history[0]} to {self.plan.history[-1]}")

        def run_nights(self):
            done.append(f"nights {self.plan.nights[0]} to {self.plan.nights[-1]}")

    monkeypatch.setattr("nightshift.local.use_case_commands.Stack", Stack)
    monkeypatch.setattr("nightshift.local.demo.Nights", Nights)
    monkeypatch.setattr("nightshift.io.warehouse.warehouse.Warehouse.__init__", lambda self, settings, use_case: None)
    monkeypatch.setattr("nightshift.io.warehouse.warehouse.Warehouse.migrate", lambda self: done.append("migrate"))
    monkeypatch.setattr("nightshift.local.summary.summarise", lambda use_case, first, last: f"{first} to {last}")
    monkeypatch.setenv("NIGHTSHIFT_WAREHOUSE_URL", "postgresql://nowhere/at_all")
    monkeypatch.setenv("NIGHTSHIFT_BUCKET", "nothing")
    load_settings.cache_clear()
    yield done
    load_settings.cache_clear()


def test_start_loads_history_then_runs_nights(copy, started, capsys):
    assert cli.main(["start", copy.name, "--from", "2020-03-01", "--to", "2020-03-14", "--nights", "2"]) == 0
    assert started == ["up", "migrate", "history 2020-03-01 to 2020-03-14", "nights 2020-03-15 to 2020-03-16"]
    assert "2020-03-15 to 2020-03-16\n\nthe login" in capsys.readouterr().out


def test_start_does_nothing_with_a_use_case_that_has_faults(copy, started, capsys):
    copy.plant(BOOKING, "isodow(booking_date)::double", "isodow(booking_date)")
    assert cli.main(["start", copy.name, "--from", "2020-03-01", "--to", "2020-03-14"]) == 1
    assert started == ["up"]
    assert "booking.sql:1: NS-USECASE-047: " in capsys.readouterr().err
