"""How two versions of one file, or of one set of parameters, differ. Pure; nothing here is run on equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.artifact import canonical_json

EXAMPLES = 5
ABSENT = "absent"
SHOWN_CHARACTERS = 200


def describe_difference(path: str, recorded: bytes, rebuilt: bytes, key: Sequence[str] = ()) -> list[str]:
    """What differs between two versions of a file, in words; at most a few lines.

    Parquet: columns, rows, and values with up to 5 examples named by those columns of `key` that are
    there. JSON: keys with both values. ONNX: initializers, nodes and their attributes. Other text: the
    first line that differs. Anything else: sizes and the first byte that differs.
    """
    suffix = PurePosixPath(path).suffix
    if suffix == ".parquet":
        return _tables(_table(recorded), _table(rebuilt), key)
    if suffix == ".json":
        said = [f"{k}: {old} became {new}" for k, old, new in differing_keys(json.loads(recorded), json.loads(rebuilt))]
        return _few(said) or ["all values are equal; they are written differently"]
    if suffix == ".onnx":
        return [_sizes(recorded, rebuilt), *_graphs(recorded, rebuilt)]
    if suffix in {".html", ".csv", ".txt", ".svg"}:
        return [_sizes(recorded, rebuilt), _lines(recorded, rebuilt)]
    return [f"{_sizes(recorded, rebuilt)}, from byte {_first_difference(recorded, rebuilt)} on"]


def differing_keys(recorded: Any, rebuilt: Any) -> list[tuple[str, str, str]]:
    """(path of the key, recorded value, rebuilt value) of each leaf that differs, as JSON text, sorted by key."""
    old, new = dict(_leaves(recorded, "")), dict(_leaves(rebuilt, ""))
    return [
        (name, _said(old, name), _said(new, name))
        for name in sorted({*old, *new})
        if _said(old, name) != _said(new, name)
    ]


def _said(leaves: Mapping[str, Any], name: str) -> str:
    if name not in leaves:
        return ABSENT
    text = canonical_json(leaves[name]).decode()
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not path):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        for position, item in enumerate(value):
            yield from _leaves(item, f"{path}[{position}]")
    else:
        yield path, value


def _table(body: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(body))


def _tables(recorded: pa.Table, rebuilt: pa.Table, key: Sequence[str]) -> list[str]:
    said = []
    for names, missing_in, word in (
        (recorded.column_names, rebuilt.column_names, "lost"),
        (rebuilt.column_names, recorded.column_names, "gained"),
    ):
        if only := [name for name in names if name not in missing_in]:
            said.append(f"columns {word}: {', '.join(only)}")
    shared = [name for name in recorded.column_names if name in rebuilt.column_names]
    retyped = [name for name in shared if recorded[name].type != rebuilt[name].type]
    said += [f"{name} was {recorded[name].type}, is {rebuilt[name].type}" for name in retyped]
    if recorded.num_rows != rebuilt.num_rows:
        return [*said, f"{recorded.num_rows} rows became {rebuilt.num_rows}", *_other_rows(recorded, rebuilt, key)]
    for name in (name for name in shared if name not in retyped):
        unequal = _unequal(recorded[name], rebuilt[name])
        if len(unequal):
            named = "; ".join(
                f"{_row_name(recorded, int(row), key)}: {recorded[name][row].as_py()!r} became "
                f"{rebuilt[name][row].as_py()!r}"
                for row in unequal.to_pylist()[:EXAMPLES]
            )
            said.append(f"{name} differs in {len(unequal)} of {recorded.num_rows} rows ({named})")
    if said:
        return _few(said)
    if recorded.column_names != rebuilt.column_names:
        return ["the columns stand in another order"]
    return ["all values are equal; the layout of the file differs (row groups, or the version that wrote it)"]


def _unequal(old: pa.ChunkedArray, new: pa.ChunkedArray) -> pa.Array:
    """Row numbers with different values; null equals null and NaN equals NaN."""
    old, new = old.combine_chunks(), new.combine_chunks()
    same = pc.fill_null(pc.equal(old, new), False)
    both = pc.and_(pc.is_null(old, nan_is_null=True), pc.is_null(new, nan_is_null=True))
    # A null and a NaN are two different things in a file.
    alike = pc.and_(both, pc.equal(pc.is_null(old), pc.is_null(new)))
    return pc.indices_nonzero(pc.invert(pc.or_(same, alike)))


def _other_rows(recorded: pa.Table, rebuilt: pa.Table, key: Sequence[str]) -> list[str]:
    """Keys that only one of the tables has."""
    named = [name for name in key if name in recorded.column_names and name in rebuilt.column_names]
    if not named:
        return []
    said = []
    for table, other, word in ((recorded, rebuilt, "lost"), (rebuilt, recorded, "gained")):
        left = (
            table.select(named)
            .join(other.select(named), named, join_type="left anti")
            .sort_by([(name, "ascending") for name in named])
        )
        if left.num_rows:
            examples = "; ".join(_row_name(left, row, named) for row in range(min(EXAMPLES, left.num_rows)))
            said.append(f"{left.num_rows} rows {word}: {examples}")
    return said


def _row_name(table: pa.Table, row: int, key: Sequence[str]) -> str:
    named = [f"{name} {table[name][row].as_py()}" for name in key if name in table.column_names]
    return ", ".join(named) or f"row {row}"


def _graphs(recorded: bytes, rebuilt: bytes) -> list[str]:
    import onnx

    def parts(body: bytes) -> dict[str, bytes]:
        graph = onnx.load_model_from_string(body).graph
        found = {f"initializer {tensor.name}": tensor.SerializeToString() for tensor in graph.initializer}
        for position, node in enumerate(graph.node):
            name = f"node {position} ({node.op_type} {node.name})"
            found[f"{name}: inputs and outputs"] = repr((list(node.input), list(node.output))).encode()
            found |= {f"{name}: {a.name}": a.SerializeToString() for a in node.attribute}
        return found

    old, new = parts(recorded), parts(rebuilt)
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    said = [f"{n} {'changed' if n in old and n in new else 'lost' if n in old else 'gained'}" for n in changed]
    return _few(said) or ["the graphs are equal; what surrounds them differs (producer, opsets or metadata)"]


def _lines(recorded: bytes, rebuilt: bytes) -> str:
    old, new = (body.decode(errors="replace").splitlines() for body in (recorded, rebuilt))
    for number in range(max(len(old), len(new))):
        pair = [lines[number] if number < len(lines) else ABSENT for lines in (old, new)]
        if pair[0] != pair[1]:
            return f"line {number + 1}: {pair[0][:SHOWN_CHARACTERS]!r} became {pair[1][:SHOWN_CHARACTERS]!r}"
    return "line ends differ"


def _sizes(recorded: bytes, rebuilt: bytes) -> str:
    return f"{len(recorded)} bytes became {len(rebuilt)}" if len(recorded) != len(rebuilt) else f"{len(recorded)} bytes"


def _first_difference(recorded: bytes, rebuilt: bytes) -> int:
    pairs = zip(recorded, rebuilt, strict=False)
    return next((at for at, (old, new) in enumerate(pairs) if old != new), min(len(recorded), len(rebuilt)))


def _few(said: list[str]) -> list[str]:
    more = len(said) - EXAMPLES
    return [*said[:EXAMPLES], f"and {more} more"] if more > 0 else said
