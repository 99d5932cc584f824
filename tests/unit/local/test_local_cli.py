"""The command line of the local stack without services."""

import errno
import fcntl
import os

import pytest

from nightshift import cli
from nightshift.errors import ConfigurationError
from nightshift.local import processes, stack
from nightshift.local.layout import FOLDER_VARIABLE, PORT_VARIABLES, Layout, State
from nightshift.local.processes import ProcessRecord
from nightshift.local.stack import SERVICES


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "local"))
    monkeypatch.delenv("NIGHTSHIFT_WAREHOUSE_URL", raising=False)


def test_an_error_is_one_sentence_and_status_1(capsys):
    assert cli.main(["env"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("nightshift env: NS-LOCAL-014: ")
    assert captured.err.count("\n") == 1


def test_status_before_the_first_start_is_a_row_for_each_service(capsys):
    assert cli.main(["status"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in rows] == [[name, "stopped"] for name in SERVICES]


@pytest.mark.parametrize("command", ["down", "clean"])
def test_stopping_nothing_is_fine_twice(command, capsys):
    assert cli.main([command]) == 0
    assert cli.main([command]) == 0
    assert capsys.readouterr().err == ""


def test_logs_show_the_last_lines_of_each_service(capsys, tmp_path):
    logs = tmp_path / "local" / "logs"
    logs.mkdir(parents=True)
    (logs / "scheduler.log").write_text("one\ntwo\nthree\n")
    (logs / "s3.log").write_text("four\n")
    assert cli.main(["logs", "-n", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == ["s3        | four", "scheduler | two", "scheduler | three"]
    assert cli.main(["logs", "scheduller"]) == 1
    assert "NS-LOCAL-026" in capsys.readouterr().err


def test_commands_on_data_need_a_stack(capsys):
    assert cli.main(["land", "flight_delay", "--from", "2013-01-01", "--to", "2013-01-02"]) == 1
    assert "NS-LOCAL-014" in capsys.readouterr().err


def test_range_that_ends_before_it_begins_is_an_error(capsys, monkeypatch):
    monkeypatch.setattr(cli, "_adopt_local_stack", lambda: (None, None))
    assert cli.main(["land", "flight_delay", "--from", "2013-01-02", "--to", "2013-01-01"]) == 1
    assert "NS-SETTINGS-007" in capsys.readouterr().err


def test_a_date_that_is_none_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["land", "flight_delay", "--from", "1 May", "--to", "2013-01-02"])
    assert ended.value.code == 2
    assert "NS-SETTINGS-003" in capsys.readouterr().err


def test_lineage_says_what_names_a_prediction(capsys, monkeypatch):
    monkeypatch.setattr(cli, "_adopt_local_stack", lambda: (None, None))
    assert cli.main(["lineage", "2013-06-01", "UA"]) == 1
    told = capsys.readouterr().err
    assert "NS-SETTINGS-008" in told
    assert "flight_date carrier flight origin" in told


def test_a_full_disk_is_one_sentence(capsys, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "local"))

    monkeypatch.setattr(stack.Stack, "up", full)
    assert cli.main(["up"]) == 1
    assert (
        capsys.readouterr().err
        == f"nightshift up: {tmp_path / 'local'}: the disk is full; free some space and try again.\n"
    )


def test_little_disk_is_said_before_anything_starts(capsys, monkeypatch):
    monkeypatch.setattr(stack, "LEAST_FREE_BYTES", 2**60)
    assert cli.main(["up"]) == 1
    assert "NS-LOCAL-024" in capsys.readouterr().err


def test_two_commands_at_once_are_an_error(capsys, tmp_path):
    folder = tmp_path / "local"
    folder.mkdir()
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cli.main(["down"]) == 1
    assert "NS-LOCAL-027" in capsys.readouterr().err


def test_what_was_started_is_found_by_down_when_the_start_fails(capsys, monkeypatch, tmp_path):
    def start_one_and_fail(self, state, running):
        log = self.layout.log("s3")
        state.processes["s3"] = processes.spawn(["sleep", "60"], log=log, env=os.environ, cwd=tmp_path)
        raise ConfigurationError("NS-TEST-001", "the second one did not start")

    for variable in PORT_VARIABLES.values():
        monkeypatch.setenv(variable, "0")
    monkeypatch.setattr(stack.Stack, "_start_missing", start_one_and_fail)
    assert cli.main(["up"]) == 1
    assert "NS-TEST-001" in capsys.readouterr().err
    assert cli.main(["status"]) == 1
    assert capsys.readouterr().out.startswith("s3             running")
    assert cli.main(["down"]) == 0
    assert "Stopped s3." in capsys.readouterr().out


def test_use_case_roots_cannot_change_while_the_stack_runs(capsys, monkeypatch, tmp_path):
    def start_one(self, state, running):
        state.processes["s3"] = processes.spawn(
            ["sleep", "60"], log=self.layout.log("s3"), env=os.environ, cwd=tmp_path
        )

    for variable in PORT_VARIABLES.values():
        monkeypatch.setenv(variable, "0")
    monkeypatch.setattr(stack.Stack, "_start_missing", start_one)
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(tmp_path / "parcels"))
    assert cli.main(["up"]) == 0
    monkeypatch.delenv("NIGHTSHIFT_USE_CASE_ROOTS")
    capsys.readouterr()
    assert cli.main(["env"]) == 0
    assert f"export NIGHTSHIFT_USE_CASE_ROOTS={tmp_path / 'parcels'}" in capsys.readouterr().out
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(tmp_path / "others"))
    assert cli.main(["up"]) == 1
    assert "NS-LOCAL-023" in capsys.readouterr().err
    assert cli.main(["down"]) == 0


def test_a_service_that_ended_by_itself_is_called_dead(capsys, tmp_path):
    layout = Layout(tmp_path / "local")
    layout.folder.mkdir()
    layout.save(State(processes={"scheduler": ProcessRecord(pid=2**22 - 1, start="", created=1.0)}))
    assert cli.main(["status"]) == 1
    out = capsys.readouterr().out
    assert "scheduler      dead" in out
    assert "`make up` starts it again" in out
