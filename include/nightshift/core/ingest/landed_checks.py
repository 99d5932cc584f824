"""Faults of a whole delivered file: each check raises SchemaChanged or MalformedFile, with the file and examples."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
LONGEST_BEGINNING = max(map(len, OTHER_KINDS))
"""Bytes of a file that `check_kind` needs."""


class Sample:
    """The first different values of a column, over its batches. `rows`: how many it was taken from."""

    def __init__(self, batches: Iterable[pa.Array | pa.ChunkedArray] = ()) -> None:
        self._values: pa.Array | None = None
        self.rows = 0
        for values in batches:
            self.add(values)
            if self.is_full:
                break

    @property
    def is_full(self) -> bool:
        """Whether further values change nothing."""
        return self._values is not None and len(self._values) >= EXAMPLES

    def add(self, values: pa.Array | pa.ChunkedArray) -> None:
        """Take the values that are new."""
        self.rows += len(values)
        if not self.is_full:
            different = pc.unique(values.drop_null())
            together = different if self._values is None else pa.concat_arrays([self._values, different])
            self._values = pc.unique(together)[:EXAMPLES]

    def shown(self) -> list[object]:
        """Up to five different values, the text of each cut."""
        values = [] if self._values is None else self._values.to_pylist()
        return [value[:EXAMPLE_CHARACTERS] if isinstance(value, str) else value for value in values]


@dataclass
class CellCheck:
    """Counts the cells of a column that are not of its type, over its batches."""

    column: Column
    filled: int = 0
    bad: int = 0
    examples: Sample = field(default_factory=Sample)

    def add(self, cells: pa.ChunkedArray, wrong: pa.ChunkedArray) -> None:
        """Count the cells as delivered; `wrong` has a true for each that is not of the type."""
        bad = pc.sum(wrong).as_py() or 0
        self.bad += bad
        self.filled += len(cells) - cells.null_count
        if bad:
            self.examples.add(cells.filter(wrong))

    def check(self, uri: str) -> None:
        """Raise SchemaChanged if most values are not of the type; fewer are faults of single rows."""
        if self.bad * 2 <= self.filled:
            return
        hint = " A timestamp has to state its offset from UTC." if self.column.type == "timestamp" else ""
        raise SchemaChanged(
            "NS-LAND-013",
            f"{uri}: column {self.column.name!r} is no longer {self.column.type}: {self.bad} of {self.filled} values "
            f"are not, for example {self.examples.shown()}.{hint} {CHANGE_FEED}",
        )


def check_kind(uri: str, start: bytes) -> None:
    """Raise MalformedFile for a compressed file, a pickle, or UTF-16 text, by how the file starts."""
    for beginning, kind in OTHER_KINDS.items():
        if start.startswith(beginning):
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


def check_names(feed: Feed, uri: str, columns: Mapping[str, Sample]) -> None:
    """Raise SchemaChanged for missing, extra or renamed columns, with examples from the delivered columns."""
    declared, delivered = [column.name for column in feed.landed], list(columns)
    missing = [name for name in declared if name not in columns]
    extra = [name for name in delivered if name not in declared]
    if not missing and not extra:
        return
    problems, renamed = [], set()
    for name in missing:
        new = _likely_new_name(name, declared, delivered, extra)
        if new is None:
            problems.append(f"column {name!r} is missing")
        else:
            renamed.add(new)
            problems.append(f"column {name!r} is missing, probably renamed to {new!r} ({_examples(columns[new])})")
    problems += [
        f"column {name!r} is not declared ({_examples(columns[name])})" for name in extra if name not in renamed
    ]
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


def _examples(sample: Sample) -> str:
    return f"values such as {sample.shown()}" if sample.rows else "no values"
