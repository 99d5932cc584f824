"""Reads what the pipeline left behind as text, by place, and searches it for secrets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from nightshift.io.artifact_store import ArtifactStore


def found(left: Mapping[str, str], secrets: Mapping[str, str]) -> set[tuple[str, str]]:
    """Which secrets are where, as text or as the hexadecimal digits of a bytea."""
    return {
        (secret, place)
        for place, text in left.items()
        for secret, value in secrets.items()
        if value in text or value.encode().hex() in text
    }


def in_bucket(store: ArtifactStore) -> dict[str, str]:
    """Everything in the bucket, by key; tables decoded."""
    texts = {}
    for entry in store.list(""):
        body = store.get(entry.key) or b""
        table = str(pq.read_table(pa.BufferReader(body)).to_pylist()) if entry.key.endswith(".parquet") else ""
        texts[entry.key] = body.decode("latin-1") + table
    return texts


def in_database(url: str) -> dict[str, str]:
    """All rows of all tables of a database, by table."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|information_schema)'"
        ).fetchall()
        texts = {}
        for names in tables:
            query = sql.SQL("SELECT string_agg(t::text, E'\\n') FROM {} t").format(sql.Identifier(*names))
            (rows,) = connection.execute(query).fetchone() or (None,)
            texts[".".join(names)] = rows or ""
    return texts


def in_files(folder: Path, *, without: Collection[str] = ()) -> dict[str, str]:
    """All files below a folder, by path; without those below the paths `without`."""
    paths = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes().decode("latin-1")
        for name, path in paths.items()
        if not any(path.is_relative_to(folder / one) for one in without)
    }
