"""Past partitions of the second use case, made once and copied for each test.

Objects name each other with their bucket: a copy belongs into the bucket that they were made in.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from nightshift.io.artifact_store import READERS, ArtifactStore
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.partitions import partition_range
from support.nights import Nights

NAME = "late_returns"
FIRST, TRAINED, LAST = date(2020, 3, 1), date(2020, 3, 16), date(2020, 4, 2)


class History:
    """What ingest, materialize and append_training_rows leave behind for partitions FIRST to LAST.

    The training of TRAINED is kept besides, the first one, which made the declared champion champion.
    """

    def __init__(self, nights: Nights) -> None:
        store, days = nights.store, partition_range(FIRST, LAST)
        self.bucket = store.bucket
        nights.deliver(days)
        for run in (nights.ingest, nights.materialize, nights.append):
            for day in days:
                run(day)
        objects = _objects(store)
        self._objects = {day: {k: v for k, v in objects.items() if str(day) in k.split("/", 2)[2]} for day in days}
        if sum(map(len, self._objects.values())) != len(objects):
            raise AssertionError("an object belongs to no partition, or to several")
        # As in a night, nothing later is there yet.
        empty_bucket(store)
        self.copy(store, TRAINED)
        before = _objects(store)
        nights.train(TRAINED)
        self._training = {key: body for key, body in _objects(store).items() if body != before.get(key)}
        with warehouse_schema.connect(nights.settings) as connection:
            self._rows = {name: _dump(connection, f"{NAME}.{name}") for name in ("deployments", "gate_results")}
            connection.execute(f"DROP SCHEMA {NAME} CASCADE")

    def copy(self, store: ArtifactStore, last: date, first: date = FIRST) -> None:
        """Let a store, that has what came before `first`, have these partitions."""
        _put(store, {key: body for day in partition_range(first, last) for key, body in self._objects[day].items()})

    def copy_trained(self, nights: Nights) -> None:
        """Let an empty store and warehouse have history up to TRAINED and its training."""
        self.copy(nights.store, TRAINED)
        _put(nights.store, self._training)
        warehouse_schema.migrate(nights.settings, nights.use_case)
        with warehouse_schema.connect(nights.settings) as connection:
            for name, body in self._rows.items():
                with connection.cursor() as cursor, cursor.copy(f"COPY {NAME}.{name} FROM STDIN") as copy:
                    copy.write(body)
            connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{NAME}.deployments', 'deployment_id'), "
                f"(SELECT max(deployment_id) FROM {NAME}.deployments))"
            )


def _objects(store: ArtifactStore) -> dict[str, bytes]:
    keys = [info.key for info in store.list("")]
    with ThreadPoolExecutor(READERS) as pool:
        return {key: body for key, body in zip(keys, pool.map(store.get, keys), strict=True) if body is not None}


def _put(store: ArtifactStore, objects: Mapping[str, bytes]) -> None:
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
