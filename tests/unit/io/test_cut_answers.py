"""Answers of an object store that end within their headers, as when the connection is closed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from nightshift.errors import StoreUnavailable
from nightshift.io.artifact_store import ArtifactStore
from nightshift.settings import Settings
from support.errors import raises_code

HEAD = b"HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\n"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArtifactStore]:
    """A store whose every answer is HEAD, and no more."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-indeed")
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            with accepted:
                accepted.recv(1 << 16)
                accepted.sendall(HEAD)

    thread = threading.Thread(target=serve)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    yield ArtifactStore(Settings(bucket="bucket", s3_endpoint_url=url, warehouse_url="postgresql://nowhere/db"))
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def test_an_object_is_not_taken_for_an_empty_one(store: ArtifactStore) -> None:
    with raises_code(StoreUnavailable, "NS-STORE-014", "bucket/a.csv"):
        store.get("a.csv")


def test_a_listing_is_not_taken_for_an_empty_one(store: ArtifactStore) -> None:
    with raises_code(StoreUnavailable, "NS-STORE-014", "bucket/landing/"):
        store.list("landing/")
