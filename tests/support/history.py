"""Past partitions of the second use case, made once in a test run and copied for each test.

Objects name each other with their bucket: a copy belongs into the bucket that they were made in.
"""

from __future__ import annotations

import fcntl
import pickle
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import READERS
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.partitions import partition_range
from support.nights import Nights

NAME = "late_returns"
FIRST, TRAINED, LAST = date(2020, 3, 1), date(2020, 3, 16), date(2020, 4, 2)


@dataclass(frozen=True)
class History:
    """What ingest, materialize and append_training_rows leave behind for partitions FIRST to LAST.

    The training of TRAINED is kept besides, the first one, which made the declared champion champion.
    """

    bucket: str
    objects: Mapping[date, Mapping[str, bytes]]
    """By partition, then by key."""
    training: Mapping[str, bytes]
    rows: Mapping[str, bytes]
    """What the training left in the warehouse, by table."""

    @classmethod
    def make(cls, nights: Nights, last: date = LAST) -> History:
        """Run the nights up to `last`, on an empty store and warehouse, which are empty afterwards."""
        store, days = nights.store, partition_range(FIRST, last)
        nights.deliver(days)
        for run in (nights.ingest, nights.materialize, nights.append):
            for day in days:
                run(day)
        objects = objects_of(store)
        by_day = {day: {k: v for k, v in objects.items() if str(day) in k.split("/", 2)[2]} for day in days}
        if sum(map(len, by_day.values())) != len(objects):
            raise AssertionError("an object belongs to no partition, or to several")
        # As in a night, nothing later is there yet.
        empty_bucket(store)
        made = cls(store.bucket, by_day, {}, {})
        made.copy(store, TRAINED)
        before = objects_of(store)
        nights.train(TRAINED)
        training = {key: body for key, body in objects_of(store).items() if body != before.get(key)}
        with warehouse_schema.connect(nights.settings) as connection:
            rows = {name: _dump(connection, f"{NAME}.{name}") for name in ("deployments", "gate_results")}
            connection.execute(f"DROP SCHEMA {NAME} CASCADE")
        return replace(made, training=training, rows=rows)

    @classmethod
    def shared(cls, nights: Nights, folder: Path) -> History:
        """The same, made once by all processes of a test run that share a folder: the others wait, and read it.

        Raises in all of them if it failed in the first.
        """
        path, failure = folder / "history.pickle", folder / "history.failed"
        with (folder / "history.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if failure.exists():
                raise AssertionError(f"another process could not make the history: {failure.read_text()}")
            if not path.exists():
                unfinished = path.with_suffix(".part")
                try:
                    unfinished.write_bytes(pickle.dumps(cls.make(nights)))
                except BaseException:
                    failure.write_text(traceback.format_exc())
                    raise
                unfinished.rename(path)
        found: History = pickle.loads(path.read_bytes())
        return found

    def copy(self, store: ArtifactStore, last: date, first: date = FIRST) -> None:
        """Let a store, that has what came before `first`, have these partitions."""
        put_objects(
            store, {key: body for day in partition_range(first, last) for key, body in self.objects[day].items()}
        )

    def copy_trained(self, nights: Nights) -> None:
        """Let an empty store and warehouse have history up to TRAINED and its training."""
        self.copy(nights.store, TRAINED)
        put_objects(nights.store, self.training)
        warehouse_schema.migrate(nights.settings, nights.use_case)
        with warehouse_schema.connect(nights.settings) as connection:
            for name, body in self.rows.items():
                with connection.cursor() as cursor, cursor.copy(f"COPY {NAME}.{name} FROM STDIN") as copy:
                    copy.write(body)
            connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{NAME}.deployments', 'deployment_id'), "
                f"(SELECT max(deployment_id) FROM {NAME}.deployments))"
            )


def objects_of(store: ArtifactStore) -> dict[str, bytes]:
    """All objects, by key."""
    keys = [info.key for info in store.list("")]
    with ThreadPoolExecutor(READERS) as pool:
        return {key: body for key, body in zip(keys, pool.map(store.get, keys), strict=True) if body is not None}


def put_objects(store: ArtifactStore, objects: Mapping[str, bytes]) -> None:
    """Put objects, by key."""
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda one: store.put(*one), objects.items()))


def _dump(connection: warehouse_schema.Connection, table: str) -> bytes:
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} TO STDOUT") as copy:
        return b"".join(copy)


def empty_bucket(store: ArtifactStore) -> None:
    """Delete all objects."""
    keys = [{"Key": info.key} for info in store.list("")]
    for start in range(0, len(keys), 1000):
        store._client.delete_objects(Bucket=store.bucket, Delete={"Objects": keys[start : start + 1000]})
