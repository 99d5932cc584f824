"""Backups of databases and bucket, restored after everything was lost."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from nightshift import cli
from nightshift.errors import ArtifactCorrupt, ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.content import content_sha256
from nightshift.io.database_dumps import DatabaseDumps
from nightshift.local.postgres import postgres_installation
from nightshift.local.scratch import Services
from nightshift.services.backup import Backup, back_up, restore, verify
from nightshift.services.lineage import trace
from nightshift.settings import Settings, load_settings
from support.desk import D, Desk, begin, days_after
from support.errors import raises_code
from support.history import empty_bucket

FIRST, SECOND = datetime(2020, 3, 21, 9, tzinfo=UTC), datetime(2020, 3, 22, 9, tzinfo=UTC)
SECRET = "a-secret-password"
LARGEST_GROWTH = 60_000_000
"""Of a process that backs up and restores an object more than three times as large."""

# In a process of its own: its peak is that of backup and restoration, not of other tests.
MEASURED = """
import json, re, sys
from datetime import UTC, datetime
from pathlib import Path
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.database_dumps import DatabaseDumps
from nightshift.services.backup import back_up, restore
from nightshift.settings import load_settings

def peak():
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

folder, settings = Path(sys.argv[1]), load_settings()
store, dumps, at = ArtifactStore(settings), DatabaseDumps(settings), datetime(2020, 3, 21, 9, tzinfo=UTC)
(large,) = store.list("")
peaks = [peak()]
back_up(store, dumps, {}, folder, at)
peaks.append(peak())
store.delete(large.key)
restore(store, dumps, {}, folder)
peaks.append(peak())
print(json.dumps([peaks[1] - peaks[0], peaks[2] - peaks[1]]))
"""


@pytest.fixture
def database(services: Services) -> Iterator[str]:
    """The name of a database of this test's own."""
    yield from a_database(services)


@pytest.fixture
def airflow(services: Services) -> Iterator[str]:
    """The name of a second one."""
    yield from a_database(services)


def a_database(services: Services) -> Iterator[str]:
    name = f"backup_{uuid.uuid4().hex[:8]}"
    recreate(services, name)
    yield name
    drop(services, name)


@pytest.fixture
def settings(settings: Settings, services: Services, database: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Those of the test with a warehouse in that database, by a URL with a password."""
    url = services.postgres.place.url(database).replace("postgres:@", f"postgres:{SECRET}@")
    monkeypatch.setenv("NIGHTSHIFT_WAREHOUSE_URL", url)
    load_settings.cache_clear()
    return load_settings()


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """One night is published."""
    begin(desk)
    desk.night(D)
    return desk


@pytest.fixture
def dumps(settings: Settings) -> DatabaseDumps:
    return DatabaseDumps(settings, [postgres_installation() / "bin"])


def drop(services: Services, name: str) -> None:
    with psycopg.connect(services.postgres.place.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def recreate(services: Services, name: str) -> None:
    drop(services, name)
    with psycopg.connect(services.postgres.place.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def backed_up(desk: Desk, dumps: DatabaseDumps, folder: Path, at: datetime = FIRST) -> Backup:
    return back_up(desk.store, dumps, {"warehouse": desk.settings.warehouse_url}, folder, at)


def restored(desk: Desk, dumps: DatabaseDumps, folder: Path, at: str = "") -> Backup:
    return restore(desk.store, dumps, {"warehouse": desk.settings.warehouse_url}, folder, at)


def objects(store: ArtifactStore) -> dict[str, bytes | None]:
    return {info.key: store.get(info.key) for info in store.list("")}


def traced(desk: Desk, day: int) -> str:
    return trace(desk.use_case, desk.settings, desk.store, {"booking_date": str(days_after(day)), "booking": "7"})


def test_lineage_resolves_after_everything_was_lost(
    desk: Desk, dumps: DatabaseDumps, services: Services, database: str, tmp_path: Path
) -> None:
    publication = desk.night(days_after(1))
    bucket, rows, text = objects(desk.store), desk.rows("predictions"), traced(desk, 2)
    backed_up(desk, dumps, tmp_path)
    recreate(services, database)
    empty_bucket(desk.store)

    restored(desk, dumps, tmp_path)

    assert objects(desk.store) == bucket
    assert desk.rows("predictions") == rows
    assert traced(desk, 2) == text
    published = desk.rows("publications")
    assert desk.predict(days_after(1)) == publication
    assert desk.rows("publications") == published
    assert objects(desk.store) == bucket
    desk.night(days_after(2))
    assert "every hash is the one that its consumer recorded" in traced(desk, 3)


def test_a_second_backup_copies_what_is_new_and_keeps_the_first(
    desk: Desk, dumps: DatabaseDumps, services: Services, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = objects(desk.store)
    first = backed_up(desk, dumps, tmp_path)
    assert {entry.key for entry in first.objects} == set(before)
    assert {entry.sha256 for entry in first.copied} == {entry.sha256 for entry in first.objects}

    desk.night(days_after(1))
    desk.store.put(f"landing/{desk.use_case.name}/bookings/dt={D}/bookings.csv", b"delivered again")
    read = []
    download = desk.store.download
    monkeypatch.setattr(desk.store, "download", lambda key, file: (read.append(key), download(key, file))[1])
    second = backed_up(desk, dumps, tmp_path, SECOND)
    monkeypatch.undo()

    new = {key for key, body in objects(desk.store).items() if before.get(key) != body}
    assert {entry.key for entry in second.copied} <= new
    assert {e.sha256 for e in second.copied} == {e.sha256 for e in second.objects} - {e.sha256 for e in first.objects}
    artifacts = {key for key in before if key.count("/") > 4 and not key.startswith("landing/")}
    assert artifacts
    assert not artifacts & set(read)
    assert {key for key in before if key.endswith("current.json")} <= set(read)

    recreate(services, database)
    empty_bucket(desk.store)
    restored(desk, dumps, tmp_path, first.folder.name)
    assert objects(desk.store) == before
    assert len(desk.rows("publications")) == 1


def test_statuses_name_only_artifacts_of_the_backup(
    desk: Desk, dumps: DatabaseDumps, services: Services, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition is published after the bucket was listed: its status may be copied, so its artifacts have to be."""
    listings = []
    listed = desk.store.list

    def list_then_publish(prefix: str) -> object:
        found = listed(prefix)
        listings.append(prefix)
        if listings == [""]:
            desk.deliver(D, bookings=30)
        return found

    monkeypatch.setattr(desk.store, "list", list_then_publish)
    backed_up(desk, dumps, tmp_path)
    monkeypatch.undo()
    recreate(services, database)
    empty_bucket(desk.store)
    restored(desk, dumps, tmp_path)
    assert desk.store.current(desk.use_case.name, "publish", D).rows == 30
    desk.store.manifest(desk.store.current(desk.use_case.name, "publish", D))


@pytest.mark.parametrize("damaged", ["dump", "object", "inventory", "missing"])
def test_a_damaged_backup_is_not_restored(
    desk: Desk, dumps: DatabaseDumps, services: Services, database: str, tmp_path: Path, damaged: str
) -> None:
    made = backed_up(desk, dumps, tmp_path)
    of_object = sorted((tmp_path / "objects").glob("*/*"))[3]
    path = {
        "dump": made.folder / "warehouse.dump",
        "inventory": made.folder / "objects.jsonl",
    }.get(damaged, of_object)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    if damaged == "missing":
        path.unlink()
    recreate(services, database)
    empty_bucket(desk.store)

    with raises_code(ArtifactCorrupt, "NS-BACKUP-004", path):
        restored(desk, dumps, tmp_path)

    assert desk.store.list("") == []
    assert dumps.tables(desk.settings.warehouse_url) == []


def test_an_interrupted_backup_is_none(
    desk: Desk, dumps: DatabaseDumps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = desk.store.download
    monkeypatch.setattr(desk.store, "download", lambda key, file: (download(key, file), 1 / 0)[0])
    with pytest.raises(ZeroDivisionError):
        backed_up(desk, dumps, tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.part"))
    with raises_code(ConfigurationError, "NS-BACKUP-003", tmp_path):
        verify(tmp_path)
    made = backed_up(desk, dumps, tmp_path, SECOND)
    assert verify(tmp_path).folder == made.folder


def test_memory_does_not_depend_on_the_size_of_an_object(store: ArtifactStore, tmp_path: Path) -> None:
    key, file = "landing/late_returns/returns/dt=2020-03-20/returns.csv", tmp_path / "large"
    with file.open("wb") as lines:
        lines.writelines(f"{number}".encode() * 1_000_000 for number in range(10, 110))
    store.put(key, file)
    sha256, size = content_sha256(file), file.stat().st_size
    assert size > 200_000_000
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "backups")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert max(json.loads(done.stdout)) < LARGEST_GROWTH
    assert [(entry.key, entry.sha256, entry.bytes) for entry in verify(tmp_path / "backups").objects] == [
        (key, sha256, size)
    ]
    assert store.download(key, file) == sha256


def test_nothing_is_restored_over_what_is_there(
    desk: Desk, dumps: DatabaseDumps, database: str, tmp_path: Path
) -> None:
    backed_up(desk, dumps, tmp_path)
    before, rows = objects(desk.store), desk.rows("publications")
    with raises_code(ConfigurationError, "NS-BACKUP-007", desk.store.bucket):
        restored(desk, dumps, tmp_path)
    assert objects(desk.store) == before
    empty_bucket(desk.store)
    with raises_code(ConfigurationError, "NS-BACKUP-008", database, f"{desk.use_case.name}."):
        restored(desk, dumps, tmp_path)
    with raises_code(ConfigurationError, "NS-BACKUP-006", "warehouse"):
        restore(desk.store, dumps, {}, tmp_path)
    other = ArtifactStore(desk.settings.model_copy(update={"bucket": "another-bucket"}))
    with raises_code(ConfigurationError, "NS-BACKUP-005", desk.store.bucket, "another-bucket"):
        restore(other, dumps, {"warehouse": desk.settings.warehouse_url}, tmp_path)
    assert desk.store.list("") == []
    assert desk.rows("publications") == rows


def test_the_password_is_in_no_command_line_and_no_error(
    desk: Desk, dumps: DatabaseDumps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[list[str], dict[str, str]]] = []
    run = subprocess.run

    def recorded(command: list[Any], **options: Any) -> Any:
        if "env" in options:
            commands.append(([str(part) for part in command], options["env"]))
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", recorded)
    backed_up(desk, dumps, tmp_path)
    with raises_code(ConfigurationError, "NS-BACKUP-002") as caught:
        dumps.restore(desk.settings.warehouse_url, tmp_path / "missing.dump")
    assert [Path(command[0]).name for command, _ in commands] == ["pg_dump", "pg_restore"]
    assert all(environment["PGPASSWORD"] == SECRET for _, environment in commands)
    assert SECRET not in str([command for command, _ in commands])
    assert SECRET not in str(caught.value)


def test_the_program_fits_the_server(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older program cannot dump the server; of newer ones the nearest is taken."""
    for version in (12, 20, 19):
        folder = tmp_path / str(version)
        folder.mkdir()
        program = folder / "pg_dump"
        program.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && echo "pg_dump (PostgreSQL) {version}.1" && exit\n'
            f"echo used {version} >&2; exit 1\n"
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "12"))
    url = desk.settings.warehouse_url
    with raises_code(ConfigurationError, "NS-BACKUP-001", "needs pg_dump of version 18", tmp_path / "12"):
        DatabaseDumps(desk.settings).dump(url, tmp_path / "x.dump")
    with raises_code(ConfigurationError, "NS-BACKUP-002", "used 19"):
        DatabaseDumps(desk.settings, [tmp_path / "20", tmp_path / "19"]).dump(url, tmp_path / "x.dump")


def test_commands(
    desk: Desk,
    services: Services,
    database: str,
    airflow: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Airflow's database is the one that its variable names."""
    # The folder of the local stack is there, but its warehouse is another one.
    monkeypatch.setenv("NIGHTSHIFT_LOCAL_DIR", str(tmp_path))
    url = services.postgres.place.url
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url(airflow, "+psycopg2"))
    with psycopg.connect(url(airflow)) as connection:
        connection.execute("CREATE TABLE dag_run AS SELECT 7 AS id")
    folder = str(tmp_path / "backups")
    assert cli.main(["backup", folder]) == 0
    recreate(services, airflow)
    recreate(services, database)
    empty_bucket(desk.store)
    assert cli.main(["restore", folder, "--check"]) == 0
    assert desk.store.list("") == []
    assert cli.main(["restore", folder]) == 0
    assert cli.main(["restore", folder]) == 1
    with psycopg.connect(url(airflow)) as connection:
        assert connection.execute("SELECT id FROM dag_run").fetchall() == [(7,)]
    assert len(desk.rows("publications")) == 1
    output = capsys.readouterr()
    assert "NS-BACKUP-007" in output.err
    assert SECRET not in output.out + output.err
