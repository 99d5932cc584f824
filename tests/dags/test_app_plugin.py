"""The plugin: who may read what, by Airflow's auth manager, and where tasks' links lead."""

import asyncio
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "nightshift_app.py"


@pytest.fixture
def plugin(dag_bag):
    spec = importlib.util.spec_from_file_location("nightshift_app", PLUGIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sign_in(plugin, monkeypatch):
    """Signs in a user who may read some DAGs; returns a browser of theirs."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user

    class SomeDags(SimpleAuthManager):
        def __init__(self, dags):
            super().__init__()
            self.dags = dags

        def is_authorized_dag(self, *, method, details=None, **_):
            return method == "GET" and details.id in self.dags

    def browser(*dags):
        monkeypatch.setattr("airflow.api_fastapi.app.get_auth_manager", lambda: SomeDags(dags))
        app = plugin._app()
        app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="ann", role="viewer")
        return TestClient(app, raise_server_exceptions=False)

    return browser


PATHS = ("/flight_delay", "/flight_delay/drift", "/flight_delay/night/2013-02-01", "/files/flight_delay/validate/x/y")


def test_without_the_right_a_use_case_does_not_exist(sign_in):
    browser = sign_in("other.ingest", "flight_delay.train")
    assert [browser.get(path).status_code for path in PATHS] == [404] * len(PATHS)
    assert "no use case that you may read" in browser.get("/").text


def test_with_the_right_to_read_ingest_it_does(sign_in):
    # There is no warehouse here: the page is found, and says what is missing.
    answer = sign_in("flight_delay.ingest").get("/flight_delay")
    assert answer.status_code == 503
    assert "NS-SETTINGS-002" in answer.text


def test_without_a_user_there_is_no_page(plugin):
    browser = TestClient(plugin._app())
    assert [browser.get(path).status_code for path in ("/", *PATHS)] == [401] * (len(PATHS) + 1)


@pytest.mark.parametrize(
    ("dag_id", "task_id", "address"),
    [
        ("flight_delay.ingest", "publish", "/plugin/nightshift/nightshift/flight_delay/data"),
        ("flight_delay.check_drift", "compare_drift", "/plugin/nightshift/nightshift/flight_delay/drift"),
        ("flight_delay.train", "register", "/plugin/nightshift/nightshift/flight_delay/model"),
        ("flight_delay.predict", "publish_predictions", "/plugin/nightshift/nightshift/flight_delay/night/2013-02-01"),
        ("flight_delay.predict", "score", ""),
        ("somebody_elses_dag", "publish", ""),
    ],
)
def test_a_task_links_to_its_evidence(plugin, monkeypatch, dag_id, task_id, address):
    monkeypatch.setattr(plugin, "_partition", lambda dag_id, run_id: "2013-02-01")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://localhost:8080")
    key = SimpleNamespace(dag_id=dag_id, task_id=task_id, run_id="r")
    assert plugin.EvidenceLink().get_link(None, ti_key=key) == address


def test_the_app_is_below_the_path_of_airflow(plugin, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.org/airflow/")
    key = SimpleNamespace(dag_id="flight_delay.ingest", task_id="publish", run_id="r")
    assert plugin.EvidenceLink().get_link(None, ti_key=key).startswith("/airflow/plugin/nightshift/")


def test_the_app_is_imported_when_the_api_server_starts(plugin, monkeypatch):
    imported = []
    monkeypatch.setattr(plugin, "_app", lambda: imported.append(True))

    async def server(scope, receive, send):
        await send(scope["path"])

    sent = []

    async def send(message):
        sent.append(message)

    middleware = plugin.ImportsTheApp(server)
    asyncio.run(middleware({"path": "/dags"}, None, send))
    assert sent == ["/dags"]
    assert imported == [True]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://ann:s3cr3t@mlflow.example:5500/base", "https://mlflow.example:5500/base"),
        ("http://127.0.0.1:5500", "http://127.0.0.1:5500"),
        ("sqlite:///mlflow.db", None),
    ],
)
def test_the_menu_shows_no_credentials(plugin, monkeypatch, uri, shown):
    monkeypatch.delenv("NIGHTSHIFT_MLFLOW_UI_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert [view["href"] for view in plugin._menu() if view["name"] == "MLflow"] == ([shown] if shown else [])
