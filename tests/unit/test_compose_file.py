"""docker-compose.yaml, as far as a schema and a parser can tell without a container engine."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import compose_spec
import pytest
import yaml

from nightshift.local import layout as layouts
from nightshift.local.layout import Layout, State

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<word>[^}]*))?\}")
ONE_SHOT = {"migrate", "minio-volume", "minio-users"}


def _interpolated(environment: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match["name"] in environment:
            return environment[match["name"]]
        assert match["operator"] == ":-", f"{match['name']} has neither a value nor a default"
        return match["word"]

    return VARIABLE.sub(value, TEXT)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> dict[str, str]:
    return _generated(tmp_path_factory.mktemp("project"))


def _generated(project: Path) -> dict[str, str]:
    """The secrets of .env after make_env.py."""
    script = project / "config" / "compose" / "make_env.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text((ROOT / "config" / "compose" / "make_env.py").read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, script], check=True, capture_output=True)
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


def test_env_of_an_earlier_version_gets_what_it_lacks(tmp_path):
    before = "MINIO_PASSWORD=chosen by hand\nREDIS_PASSWORD=\nNIGHTSHIFT_UI_PORT=8081"
    (tmp_path / ".env").write_text(before, encoding="utf-8")
    (tmp_path / ".env").chmod(0o644)
    completed = _generated(tmp_path)
    assert (tmp_path / ".env").read_text(encoding="utf-8").startswith(f"{before}\n")
    assert completed["MINIO_PASSWORD"] == "chosen by hand"
    assert re.fullmatch("[0-9a-f]{64}", completed["REDIS_PASSWORD"])
    assert completed["NIGHTSHIFT_UI_PORT"] == "8081"
    assert {m["name"] for m in VARIABLE.finditer(TEXT) if m["operator"] == ":?"} <= completed.keys()
    assert _generated(tmp_path) == completed


def test_secrets_are_where_they_are_used(secrets, services):
    """A task can read what its worker has: nothing of Airflow's, no superuser of the warehouse or the store."""
    of_airflow = {"migrate", "api-server", "scheduler", "dag-processor"}
    assert {name: {one for one in services if secrets[name] in json.dumps(services[one])} for name in secrets} == {
        "POSTGRES_PASSWORD": {"postgres", "migrate"},
        "WAREHOUSE_PASSWORD": {"postgres", "dag-processor", "worker"},
        "PAGES_PASSWORD": {"postgres", "api-server"},
        "AIRFLOW_DB_PASSWORD": {"postgres", *of_airflow},
        "MLFLOW_DB_PASSWORD": {"postgres", "mlflow"},
        "REDIS_PASSWORD": {"redis", "scheduler", "dag-processor", "worker"},
        "MINIO_PASSWORD": {"minio", "minio-users"},
        "MINIO_PIPELINE_PASSWORD": {"minio-users", "worker"},
        "MINIO_PAGES_PASSWORD": {"minio-users", "api-server", "migrate"},
        "MINIO_MLFLOW_PASSWORD": {"minio-users", "mlflow"},
        "MINIO_LANDING_PASSWORD": {"minio-users"},
        "AIRFLOW_SECRET_KEY": of_airflow,
        "AIRFLOW_JWT_SECRET": of_airflow,
        "AIRFLOW_FERNET_KEY": of_airflow,
        "AIRFLOW_ADMIN_PASSWORD": {"migrate"},
    }
    script = (ROOT / "config" / "compose" / "create_databases.sql").read_text(encoding="utf-8")
    passed_on = set(re.findall(r"^\\getenv \w+ (\w+)$", script, re.MULTILINE))
    assert passed_on == {"AIRFLOW_DB_PASSWORD", "MLFLOW_DB_PASSWORD", "WAREHOUSE_PASSWORD", "PAGES_PASSWORD"}
    assert passed_on <= services["postgres"]["environment"].keys()
    users = {name: service.get("environment", {}).get("AWS_ACCESS_KEY_ID") for name, service in services.items()}
    assert {name: user for name, user in users.items() if user} == {
        "worker": "pipeline",
        "api-server": "pages",
        "migrate": "pages",
        "mlflow": "mlflow",
    }


def test_no_process_has_a_secret_among_its_arguments(services):
    """Every user of the host can read them. In front of a command it is in the environment, after it on a stream."""
    texts = [text for service in services.values() for text in service.get("command", ())]
    texts += [text for service in services.values() for text in service.get("healthcheck", {}).get("test", ())]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    uses = {line for line in lines if re.search(r"\$\w*(PASSWORD|SECRET|KEY|BROKER)", line)}
    in_environment = {line for line in uses if re.match(r'(export )?[A-Z_]+="[^"]*"', line)}
    on_a_stream = {line for line in uses if "<<<" in line or line == "requirepass $$REDIS_PASSWORD"}
    assert len(uses) == 5
    assert uses == in_environment | on_a_stream


READ, WRITE = {"s3:GetObject"}, {"s3:PutObject", "s3:DeleteObject"}
LIST = {"s3:ListBucket"}
STORE_POLICIES = {
    # user: the objects that it may use, what it may do to them, what it may do to the bucket, and under which condition
    "pipeline": ("*", READ | WRITE, LIST | {"s3:GetBucketVersioning"}, None),
    "pages": ("*", READ, LIST, None),
    "mlflow": ("mlflow/*", READ | WRITE | {"s3:AbortMultipartUpload"}, LIST, {"s3:prefix": ["mlflow/*"]}),
    "landing": ("landing/*", READ | WRITE, LIST, {"s3:prefix": ["landing/*"]}),
}


@pytest.mark.parametrize(
    ("variables", "bucket"),
    [
        ({}, "nightshift"),
        ({"NIGHTSHIFT_ENVIRONMENT": "staging"}, "nightshift-staging"),
        ({"NIGHTSHIFT_ENVIRONMENT": "prod"}, "nightshift-prod"),
        ({"NIGHTSHIFT_ENVIRONMENT": "prod", "NIGHTSHIFT_BUCKET": "chosen"}, "chosen"),
    ],
)
def test_store_users_may_do_what_they_need(tmp_path, secrets, services, variables, bucket):
    """The commands that MinIO gets, in order, with what they read."""
    calls = tmp_path / "calls"
    mc = tmp_path / "mc"
    mc.write_text(
        """#!/bin/bash
        printf '%s\\t' "$@" >> "$CALLS"
        case "$*" in "admin policy create "*) tr -d '\\n' < "$6";; "admin user add "*) tr -d '\\n';; esac >> "$CALLS"
        echo >> "$CALLS"
        """,
        encoding="utf-8",
    )
    mc.chmod(0o755)
    service = services["minio-users"]
    script = ROOT / service["entrypoint"][1].removeprefix("/")
    environment = {name: value for name, value in service["environment"].items() if value} | variables
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)}
    subprocess.run([service["entrypoint"][0], script], check=True, env=environment)

    commands = [line.split("\t") for line in calls.read_text(encoding="utf-8").splitlines()]
    assert commands.pop(0) == ["mb", "--ignore-existing", f"store/{bucket}", ""]
    assert len(commands) == 3 * len(STORE_POLICIES)
    for user, (objects, on_objects, on_bucket, condition) in STORE_POLICIES.items():
        create, add, attach = commands[:3]
        del commands[:3]
        assert create[:5] == ["admin", "policy", "create", "store", user]
        assert add == ["admin", "user", "add", "store", user, secrets[f"MINIO_{user.upper()}_PASSWORD"]]
        assert attach == ["admin", "policy", "attach", "store", user, "--user", user, ""]
        policy = json.loads(create[6])
        arn = f"arn:aws:s3:::{bucket}"
        statements = [
            {"Effect": "Allow", "Action": on_objects, "Resource": [f"{arn}/{objects}"]},
            {"Effect": "Allow", "Action": on_bucket, "Resource": [arn]},
        ]
        if condition:
            statements[1]["Condition"] = {"StringLike": condition}
        stated = [statement | {"Action": set(statement["Action"])} for statement in policy["Statement"]]
        assert (policy["Version"], stated) == ("2012-10-17", statements)


def test_what_runs_on_is_watched_and_unprivileged(services):
    for name, service in services.items():
        if name in ONE_SHOT:
            continue
        assert "healthcheck" in service, name
        assert service.get("user") or service["image"] == "nightshift:local", name
        assert ":" in service["image"], name
        assert not service["image"].endswith(":latest"), name
    assert "\nUSER nightshift\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_scheduler_examines_more_runs_than_may_wait(services, tmp_path):
    # Airflow's default is 20, and it examines those of backfills last.
    name = "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE"
    local = layouts.public_environment(Layout(tmp_path), State(ports=layouts.choose_ports({})))
    use_cases = 200
    assert services["scheduler"]["environment"][name] == local[name]
    assert int(local[name]) > 2 * use_cases


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
