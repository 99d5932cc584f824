"""The stack of docker-compose.yaml, started once for all tests."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightshift.local.processes import free_ports
from support.compose_stack import ROOT, Compose

PORTS = ("UI", "S3", "S3_CONSOLE", "MLFLOW", "POSTGRES")


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    folder = tmp_path_factory.mktemp("compose")
    script = folder / "config" / "compose" / "make_env.py"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "config" / "compose" / "make_env.py", script)
    subprocess.run([sys.executable, script], check=True, capture_output=True)
    env = folder / ".env"
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    with env.open("a", encoding="utf-8") as file:
        file.writelines(f"NIGHTSHIFT_{name}_PORT={port}\n" for name, port in ports.items())
        file.write("NIGHTSHIFT_TASK_SLOTS=4\n")
    override = folder / "override.yaml"
    # An engine without a bridge to the outside builds on the host's network.
    override.write_text("services: {migrate: {build: {network: host}}}\n", encoding="utf-8")
    name = f"nightshift-test-{secrets.token_hex(4)}"
    files = ("--file", str(ROOT / "docker-compose.yaml"), "--file", str(override))
    compose = Compose(
        ("docker", "compose", "--project-name", name, "--env-file", str(env), *files),
        env,
        dict(line.split("=", 1) for line in env.read_text(encoding="utf-8").splitlines()),
    )
    try:
        compose.up()
        yield compose
    finally:
        if keep := os.environ.get("TEST_COMPOSE_LOGS"):
            Path(keep).write_text(compose("logs", "--no-color"), encoding="utf-8")
        compose("down", "--volumes", "--timeout", "20")
