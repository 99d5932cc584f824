from __future__ import annotations

import psycopg

from nightshift.io.artifact_store import ArtifactStore
from nightshift.settings import Settings


def test_store_round_trips_and_refuses_a_second_immutable_put(store: ArtifactStore) -> None:
    assert store.put("a/b.txt", b"one", immutable=True)
    assert not store.put("a/b.txt", b"two", immutable=True)
    assert store.get("a/b.txt") == b"one"
    assert store.get("a/missing") is None


def test_each_test_has_an_empty_bucket(store: ArtifactStore) -> None:
    assert store.list("") == []


def test_warehouse_answers(settings: Settings) -> None:
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        assert connection.execute("select current_database()").fetchone() == ("warehouse",)
