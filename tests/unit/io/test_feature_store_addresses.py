"""How Feast is given the addresses of PostgreSQL and Redis."""

from __future__ import annotations

import pytest

from nightshift.io.feast.feature_store import online_store_settings
from nightshift.io.feast.postgres_online_store import PostgresUrlOnlineStoreConfig, connection_parts


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://postgres:@/db?host=/run/pg", ("/run/pg", 5432, "db", "postgres", "", "prefer")),
        ("postgresql+psycopg://u:p%40ss@pg:6543/w?sslmode=require", ("pg", 6543, "w", "u", "p@ss", "require")),
    ],
)
def test_a_url_gives_feast_its_parts(url: str, expected: tuple[object, ...]) -> None:
    names = ("host", "port", "database", "user", "password", "sslmode")
    assert connection_parts(url) == dict(zip(names, expected, strict=True))
    config = PostgresUrlOnlineStoreConfig(type="whatever.PostgresUrlOnlineStore", url=url)
    assert tuple(getattr(config, name) for name in names) == expected
    assert config.db_schema == "feast_online"


def test_redis_is_addressed_in_feasts_own_form() -> None:
    declared = {"type": "nightshift.io.feast.postgres_online_store.PostgresUrlOnlineStore", "url": "${X}"}
    redis = online_store_settings(declared, "postgresql://w", "redis://:secret@cache:6380/2")
    assert redis["type"] == "redis"
    assert redis["connection_string"] == "cache:6380,db=2,password=secret,socket_timeout=10,socket_connect_timeout=10"
    assert online_store_settings(declared, "postgresql://w", None) == {**declared, "url": "postgresql://w"}
