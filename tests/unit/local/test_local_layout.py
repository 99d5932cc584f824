"""Folders, ports and credentials of the local stack."""

import shlex
import socket
import subprocess

import pytest

from nightshift.declare.discovery import PROJECT_ROOT
from nightshift.errors import ConfigurationError
from nightshift.local import layout as layouts
from nightshift.local import postgres
from nightshift.local.layout import Layout, State
from nightshift.local.postgres import SOCKET_NAME, postgres_place
from nightshift.local.processes import LONGEST_SOCKET_PATH, free_ports
from support.errors import raises_code


@pytest.fixture(autouse=True)
def _no_requested_ports(monkeypatch):
    for variable in layouts.PORT_VARIABLES.values():
        monkeypatch.setenv(variable, "0")


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "local")


def busy():
    server = socket.socket()
    # A port that may be requested: those that the system gives out may be too high.
    server.bind(("127.0.0.1", free_ports(1)[0]))
    server.listen()
    return server


def test_ports_are_distinct_and_stay_the_same():
    first = layouts.choose_ports({})
    assert len(set(first.values())) == len(first) == 9
    assert layouts.choose_ports(first) == first


def test_a_busy_port_is_said_with_its_holder_and_its_variable(monkeypatch):
    with busy() as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("NIGHTSHIFT_UI_PORT", str(port))
        with raises_code(
            ConfigurationError, "NS-LOCAL-013", f"Port {port} (ui)", f"NIGHTSHIFT_UI_PORT={port + 1} make up"
        ):
            layouts.choose_ports({})


def test_an_inner_port_that_became_busy_is_replaced():
    stored = layouts.choose_ports({})
    with busy() as server:
        stored["s3_filer"] = server.getsockname()[1]
        chosen = layouts.choose_ports(stored)
    assert chosen["s3_filer"] != stored["s3_filer"]
    assert chosen["s3"] == stored["s3"]


def test_ports_of_running_services_are_kept_though_they_are_busy():
    stored = layouts.choose_ports({})
    with busy() as server:
        stored["mlflow"] = server.getsockname()[1]
        assert layouts.choose_ports(stored, frozenset({"mlflow"}))["mlflow"] == stored["mlflow"]


def test_a_running_service_cannot_move(monkeypatch):
    stored = layouts.choose_ports({})
    monkeypatch.setenv("NIGHTSHIFT_UI_PORT", "8099")
    with raises_code(ConfigurationError, "NS-LOCAL-012", "NIGHTSHIFT_UI_PORT"):
        layouts.choose_ports(stored, frozenset({"ui"}))


@pytest.mark.parametrize("text", ["http", "-1", "60000"])
def test_invalid_port_is_an_error(monkeypatch, text):
    monkeypatch.setenv("NIGHTSHIFT_S3_PORT", text)
    with raises_code(ConfigurationError, "NS-LOCAL-011", "NIGHTSHIFT_S3_PORT"):
        layouts.requested_ports()


def test_state_round_trips_and_a_broken_one_says_what_to_do(layout):
    layout.folder.mkdir()
    state = State(ports={"ui": 8080}, migrated_for="3.3.2")
    layout.save(state)
    assert layout.state() == state
    (layout.folder / "state.json").write_text("{")
    with raises_code(ConfigurationError, "NS-LOCAL-010"):
        layout.state()


def test_credentials_are_made_once_for_their_owner_alone(layout):
    made = layout.credentials()
    assert layout.credentials() == made
    # Of a stack that was made before there was a key for deliveries.
    path = layout.folder / "credentials.json"
    path.write_text(made.model_dump_json(exclude={"landing_secret_key"}))
    later = layout.credentials()
    assert later == layout.credentials() == made.model_copy(update={"landing_secret_key": later.landing_secret_key})
    assert (layout.folder / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert len(set(made.model_dump().values())) == 6


def test_environment_before_the_first_start_says_what_to_do(layout):
    with raises_code(ConfigurationError, "NS-LOCAL-014"):
        layouts.public_environment(layout, State())


def test_environment_has_what_clients_need_and_survives_a_shell(layout):
    state = State(ports=layouts.choose_ports({}))
    environment = layouts.public_environment(layout, state)
    assert {
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "NIGHTSHIFT_BUCKET",
        "NIGHTSHIFT_WAREHOUSE_URL",
        "NIGHTSHIFT_ENVIRONMENT",
        "MLFLOW_TRACKING_URI",
        "AIRFLOW_HOME",
        "AIRFLOW_API_URL",
    } <= set(environment)
    assert environment["AIRFLOW__CORE__DAGS_FOLDER"] == str(PROJECT_ROOT / "dags")
    awkward = environment | {"NIGHTSHIFT_AWKWARD": 'it\'s $HOME `x` "y"'}
    script = layouts.export_lines(awkward) + "\nprintf %s " + shlex.quote("") + '"$NIGHTSHIFT_AWKWARD"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout == 'it\'s $HOME `x` "y"'


def test_stack_environment_has_its_use_case_roots(layout):
    ports = layouts.choose_ports({})
    roots = "NIGHTSHIFT_USE_CASE_ROOTS"
    assert roots not in layouts.public_environment(layout, State(ports=ports))
    assert layouts.public_environment(layout, State(ports=ports, roots="/parcels"))[roots] == "/parcels"


def test_services_do_not_phone_home(layout):
    environment = layouts.service_environment(layouts.public_environment(layout, State(ports=layouts.choose_ports({}))))
    assert environment["DO_NOT_TRACK"] == environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["GX_ANALYTICS_ENABLED"] == "false"


def test_a_deep_folder_gets_a_short_socket_elsewhere(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    place = postgres_place(deep)
    assert len(str(place.sockets / SOCKET_NAME)) <= LONGEST_SOCKET_PATH
    assert place.outside is not None
    assert place.sockets.parent == place.outside
    assert postgres_place(deep) == place


def test_root_in_a_closed_folder_runs_postgresql_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres, "closed_folder", lambda path: tmp_path if path.is_relative_to(tmp_path) else None)
    place = postgres_place(tmp_path / "postgres")
    assert place.user is not None
    assert not place.data.is_relative_to(tmp_path)
    assert not place.sockets.is_relative_to(tmp_path)
    assert place.installation == postgres.postgres_installation()


def test_root_says_so_when_no_temporary_folder_is_open(tmp_path, monkeypatch):
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres, "closed_folder", lambda path: tmp_path)
    with raises_code(ConfigurationError, "NS-LOCAL-016"):
        postgres_place(tmp_path / "postgres")


def test_closed_folder_names_the_first_one_in_the_way(tmp_path):
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    found = postgres.closed_folder(closed / "inner" / "not-there-yet")
    assert found is not None
    assert closed == found or closed.is_relative_to(found)
