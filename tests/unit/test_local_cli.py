import pytest

from nightshift import cli
from nightshift.local.layout import FOLDER_VARIABLE
from nightshift.local.stack import SERVICES


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "local"))
    monkeypatch.delenv("NIGHTSHIFT_WAREHOUSE_URL", raising=False)


def test_an_error_is_one_sentence_and_status_1(capsys):
    assert cli.main(["env"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "nightshift env: There is no local stack yet: run `make up` first.\n"


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
    assert "scheduler" in capsys.readouterr().err


def test_commands_on_data_need_a_stack(capsys):
    assert cli.main(["land", "flight_delay", "--from", "2013-01-01", "--to", "2013-01-02"]) == 1
    assert "make up" in capsys.readouterr().err


def test_a_range_that_ends_before_it_begins_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(cli, "_adopt_local_stack", lambda: None)
    assert cli.main(["land", "flight_delay", "--from", "2013-01-02", "--to", "2013-01-01"]) == 1
    assert "is before --from" in capsys.readouterr().err


def test_a_date_that_is_none_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["land", "flight_delay", "--from", "1 May", "--to", "2013-01-02"])
    assert ended.value.code == 2
    assert "YYYY-MM-DD" in capsys.readouterr().err


def test_lineage_says_what_names_a_prediction(capsys, monkeypatch):
    monkeypatch.setattr(cli, "_adopt_local_stack", lambda: None)
    assert cli.main(["lineage", "2013-06-01", "UA"]) == 1
    assert "flight_date carrier flight origin" in capsys.readouterr().err
