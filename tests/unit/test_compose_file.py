"""docker-compose.yaml, as far as a schema and a parser can tell without a container engine."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import compose_spec
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<word>[^}]*))?\}")
ONE_SHOT = {"migrate", "minio-volume"}


def _interpolated(environment: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match["name"] in environment:
            return environment[match["name"]]
        assert match["operator"] == ":-", f"{match['name']} has neither a value nor a default"
        return match["word"]

    return VARIABLE.sub(value, TEXT)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> dict[str, str]:
    project = tmp_path_factory.mktemp("project")
    script = project / "config" / "compose" / "make_env.py"
    script.parent.mkdir(parents=True)
    script.write_text((ROOT / "config" / "compose" / "make_env.py").read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, script], check=True, capture_output=True)
    again = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert again.returncode == 1
    assert "left alone" in again.stderr
    env_file = project / ".env"
    assert env_file.stat().st_mode & 0o077 == 0
    return dict(line.split("=", 1) for line in env_file.read_text(encoding="utf-8").splitlines())


@pytest.fixture(scope="module")
def services(secrets) -> dict[str, dict]:
    return yaml.safe_load(_interpolated(secrets))["services"]


def test_the_compose_specification_accepts_it(secrets):
    document = yaml.safe_load(_interpolated(secrets))
    compose_spec.PyCompose.from_json(json.dumps(document)).validate()
    document["services"]["api-server"]["portz"] = []
    with pytest.raises(ValueError, match="portz"):
        compose_spec.PyCompose.from_json(json.dumps(document))


def test_every_secret_is_required_and_generated(secrets):
    required = {m["name"] for m in VARIABLE.finditer(TEXT) if m["operator"] == ":?"}
    assert required == set(secrets)
    defaults = {m["name"] for m in VARIABLE.finditer(TEXT) if m["operator"] == ":-"}
    assert not [name for name in defaults if re.search("PASSWORD|SECRET|KEY", name)]


def test_secrets_are_where_they_are_used(secrets, services):
    """A task can read what its worker has: nothing of Airflow's, no superuser of the warehouse."""
    of_airflow = {"migrate", "api-server", "scheduler", "dag-processor"}
    assert {name: {one for one in services if secrets[name] in json.dumps(services[one])} for name in secrets} == {
        "POSTGRES_PASSWORD": {"postgres", "migrate"},
        "WAREHOUSE_PASSWORD": {"postgres", "dag-processor", "worker"},
        "PAGES_PASSWORD": {"postgres", "api-server"},
        "AIRFLOW_DB_PASSWORD": {"postgres", *of_airflow},
        "MLFLOW_DB_PASSWORD": {"postgres", "mlflow"},
        "REDIS_PASSWORD": {"redis", "scheduler", "dag-processor", "worker"},
        "MINIO_PASSWORD": {"minio", "migrate", "mlflow", "api-server", "dag-processor", "worker"},
        "AIRFLOW_SECRET_KEY": of_airflow,
        "AIRFLOW_JWT_SECRET": of_airflow,
        "AIRFLOW_FERNET_KEY": of_airflow,
        "AIRFLOW_ADMIN_PASSWORD": {"migrate"},
    }
    script = (ROOT / "config" / "compose" / "create_databases.sql").read_text(encoding="utf-8")
    passed_on = set(re.findall(r"^\\getenv \w+ (\w+)$", script, re.MULTILINE))
    assert passed_on == {"AIRFLOW_DB_PASSWORD", "MLFLOW_DB_PASSWORD", "WAREHOUSE_PASSWORD", "PAGES_PASSWORD"}
    assert passed_on <= services["postgres"]["environment"].keys()


def test_what_runs_on_is_watched_and_unprivileged(services):
    for name, service in services.items():
        if name in ONE_SHOT:
            continue
        assert "healthcheck" in service, name
        assert service.get("user") or service["image"] == "nightshift:local", name
        assert ":" in service["image"], name
        assert not service["image"].endswith(":latest"), name
    assert "\nUSER nightshift\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_ports_are_published_on_loopback_only(services):
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), (name, port)


def test_dependencies_exist_and_conditions_can_be_met(services):
    for name, service in services.items():
        for needed, rule in service.get("depends_on", {}).items():
            if rule["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], (name, needed)
            else:
                assert needed in ONE_SHOT, (name, needed)


def test_the_image_installs_the_same_hashed_lock():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "--require-hashes --requirement requirements.txt" in dockerfile
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for copied in re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE):
        assert f"!{copied}" in allowed, copied
        assert (ROOT / copied).exists(), copied


def test_image_volumes_belong_to_its_user(services):
    # A new volume takes its owner from the folder of the image; one that the image lacks becomes root's.
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    variables = dict(re.findall(r"(?:^ENV |^ {4})(\w+)=(\S+)", dockerfile, re.MULTILINE))
    as_its_user = dockerfile.partition("\nUSER nightshift\n")[2]
    made = re.findall(r"^RUN mkdir -p (.+)$", as_its_user, re.MULTILINE)
    folders = {
        VARIABLE.sub(lambda match: variables[match["name"]], folder) for line in made for folder in shlex.split(line)
    }
    mounted = {
        volume.split(":")[1]
        for service in services.values()
        if service["image"] == "nightshift:local"
        for volume in service.get("volumes", [])
    }
    assert mounted == {"/home/nightshift/airflow/logs"}
    assert mounted <= folders
