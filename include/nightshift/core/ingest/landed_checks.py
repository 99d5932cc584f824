"""Faults of a whole delivered file: each check raises SchemaChanged or MalformedFile, with the file and examples."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.declare.feeds import Column, Feed
from nightshift.errors import MalformedFile, SchemaChanged

EXAMPLES = 5
PROBLEMS = 10
EXAMPLE_CHARACTERS = 80
ROW_BYTES = 100
"""What a row is counted as besides its cells: its place, its lineage, its reasons."""
SEND_AGAIN = "Have the producer deliver the file again, then run ingest for the partition again."
CHANGE_FEED = (
    "If it is meant, change the feed's declaration and its SQL; if not, have the producer deliver the file again."
)

OTHER_KINDS = {
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xfd7zXZ": "compressed with xz",
    b"BZh91AY&SY": "compressed with bzip2",
    b"PK\x03\x04": "a zip archive",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    **{bytes([0x80, protocol]): "a pickle" for protocol in range(2, 6)},
}
"""How files begin that producers deliver by mistake. Nothing is decompressed but the columns of Parquet."""


def check_kind(uri: str, data: bytes) -> None:
    """Raise MalformedFile for a compressed file, a pickle, or UTF-16 text."""
    for beginning, kind in OTHER_KINDS.items():
        if data.startswith(beginning):
            raise MalformedFile("NS-LAND-112", f"{uri} is {kind}, not CSV in UTF-8 or Parquet. {SEND_AGAIN}")


def check_size(feed: Feed, uri: str, size: int) -> None:
    """Raise MalformedFile if a delivery, a file of it or its rows so far, has more bytes than its feed allows."""
    if size > feed.max_bytes:
        raise MalformedFile(
            "NS-LAND-113",
            f"{uri} has more than the {feed.max_bytes} bytes that feed {feed.name} allows, as delivered or decoded "
            f"({ROW_BYTES} besides its cells are counted for a row). If that is meant, raise the feed's max_bytes.",
        )


def check_repeated(uri: str, names: Sequence[str]) -> None:
    """Raise SchemaChanged if a name of a column comes twice."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise SchemaChanged("NS-LAND-012", f"{uri} has columns {twice[:EXAMPLES]} more than once. {CHANGE_FEED}")


def check_names(feed: Feed, uri: str, table: pa.Table) -> None:
    """Raise SchemaChanged for missing, extra or renamed columns; the rows of the table serve as examples."""
    declared = [column.name for column in feed.landed]
    missing = [name for name in declared if name not in table.column_names]
    extra = [name for name in table.column_names if name not in declared]
    if not missing and not extra:
        return
    problems, renamed = [], set()
    for name in missing:
        new = _likely_new_name(name, declared, table.column_names, extra)
        if new is None:
            problems.append(f"column {name!r} is missing")
        else:
            renamed.add(new)
            problems.append(f"column {name!r} is missing, probably renamed to {new!r} ({_examples(table[new])})")
    problems += [f"column {name!r} is not declared ({_examples(table[name])})" for name in extra if name not in renamed]
    if len(problems) > PROBLEMS:
        problems = [*problems[:PROBLEMS], f"and {len(problems) - PROBLEMS} more"]
    raise SchemaChanged("NS-LAND-018", f"{uri}: {'; '.join(problems)}. {CHANGE_FEED}")


def _likely_new_name(name: str, declared: list[str], delivered: list[str], extra: list[str]) -> str | None:
    """An extra column at the same position, or else with a similar name; None if there is neither."""
    place = declared.index(name)
    if len(declared) == len(delivered) and delivered[place] in extra:
        return delivered[place]
    similar = difflib.get_close_matches(name, extra, n=1)
    return similar[0] if similar else None


def _examples(values: pa.ChunkedArray) -> str:
    return f"values such as {sample(values)}" if len(values) else "no values"


def sample(values: pa.ChunkedArray) -> list[object]:
    """Up to five different values, the text of each cut."""
    found = pc.unique(values.drop_null())[:EXAMPLES].to_pylist()
    return [value[:EXAMPLE_CHARACTERS] if isinstance(value, str) else value for value in found]


def check_type(column: Column, uri: str, cells: pa.ChunkedArray, wrong: pa.ChunkedArray) -> None:
    """Raise SchemaChanged if most values of a column are not of its type; fewer are faults of single rows."""
    bad, filled = pc.sum(wrong).as_py() or 0, len(cells) - cells.null_count
    if bad * 2 <= filled:
        return
    examples = sample(cells.filter(wrong))
    hint = " A timestamp has to state its offset from UTC." if column.type == "timestamp" else ""
    raise SchemaChanged(
        "NS-LAND-013",
        f"{uri}: column {column.name!r} is no longer {column.type}: {bad} of {filled} values are not, "
        f"for example {examples}.{hint} {CHANGE_FEED}",
    )
