"""Differences between a rebuilt artifact and the recorded one, as texts. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.artifact import Manifest, canonical_json

EXAMPLES = 5
ABSENT = "absent"
SHOWN_CHARACTERS = 200


def artifact_differences(
    recorded: Manifest, rebuilt: Manifest, old_files: Mapping[str, bytes], new_files: Mapping[str, bytes]
) -> list[str]:
    """Texts about inputs, parameters and files that differ; empty if both have the same identity.

    `old_files` and `new_files`: contents by path, of the recorded and the rebuilt artifact.
    """
    differences = []
    for name in sorted({*recorded.inputs, *rebuilt.inputs}):
        old, new = ([ref.sha256 for ref in manifest.inputs.get(name, ())] for manifest in (recorded, rebuilt))
        if old != new:
            uris = {ref.sha256: ref.uri for manifest in (recorded, rebuilt) for ref in manifest.inputs.get(name, ())}
            example = next((f", for example {uris[one]}" for one in [*old, *new] if (one in old) != (one in new)), "")
            differences.append(f"input {name}: {len(old)} artifacts became {len(new)}{example}")
    differences += [f"parameter {text}" for text in value_differences(recorded.parameters, rebuilt.parameters)]
    old_hashes, new_hashes = (
        {entry.path: entry.sha256 for entry in manifest.files} for manifest in (recorded, rebuilt)
    )
    for path in sorted({*old_hashes, *new_hashes}):
        if path not in new_hashes:
            differences.append(f"{path} is not made any more")
        elif path not in old_hashes:
            differences.append(f"{path} was not made then")
        elif old_hashes[path] != new_hashes[path]:
            texts = file_differences(path, old_files[path], new_files[path])
            differences.append(f"{path} ({old_hashes[path][:16]} became {new_hashes[path][:16]}): {'; '.join(texts)}")
    return differences


def file_differences(path: str, recorded: bytes, rebuilt: bytes) -> list[str]:
    """Differences between two versions of a file, in a few texts.

    Parquet: rows, columns and values by row number. JSON: keys with both values. Else: sizes and the first byte.
    """
    if path.endswith(".parquet"):
        differences = _table_differences(*(pq.read_table(pa.BufferReader(body)) for body in (recorded, rebuilt)))
        return _few(differences) or ["all values are equal; the layout of the file differs"]
    if path.endswith(".json"):
        differences = value_differences(json.loads(recorded), json.loads(rebuilt))
        return _few(differences) or ["all values are equal; they are written differently"]
    pairs = enumerate(zip(recorded, rebuilt, strict=False))
    first = next((at for at, (old, new) in pairs if old != new), min(len(recorded), len(rebuilt)))
    return [f"{len(recorded)} bytes became {len(rebuilt)}, from byte {first} on"]


def value_differences(recorded: Any, rebuilt: Any) -> list[str]:
    """`key: old became new` for each leaf of nested values that differs, sorted by key."""
    old, new = dict(_leaves(recorded, "")), dict(_leaves(rebuilt, ""))
    names = sorted(name for name in {*old, *new} if old.get(name, ABSENT) != new.get(name, ABSENT))
    return [f"{name}: {old.get(name, ABSENT)} became {new.get(name, ABSENT)}" for name in names]


def environment_differences(
    manifests: Sequence[Manifest], code_version: str, lock_sha256: str, libraries: Mapping[str, str]
) -> list[dict[str, str]]:
    """Code, lock and library versions that differ from those recorded in manifests.

    Each {"what", "recorded", "now", "steps"}, sorted; "" means unknown or not installed.
    """
    differences: dict[tuple[str, str, str], set[str]] = {}
    now = {"code version": code_version, "dependency lock": lock_sha256, **libraries}
    for manifest in manifests:
        then = {
            "code version": manifest.code_version,
            "dependency lock": manifest.lock_sha256,
            **manifest.libraries,
        }
        for what in {*then, *now}:
            if then.get(what, "") != now.get(what, ""):
                differences.setdefault((what, then.get(what, ""), now.get(what, "")), set()).add(manifest.step)
    return [
        {"what": what, "recorded": recorded, "now": version, "steps": ", ".join(sorted(steps))}
        for (what, recorded, version), steps in sorted(differences.items())
    ]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path of the key, value as JSON text, shortened)."""
    if isinstance(value, Mapping) and (value or not path):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        for position, item in enumerate(value):
            yield from _leaves(item, f"{path}[{position}]")
    else:
        text = canonical_json(value).decode()
        yield path, text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def _table_differences(recorded: pa.Table, rebuilt: pa.Table) -> list[str]:
    if not recorded.schema.equals(rebuilt.schema):
        columns = [{field.name: str(field.type) for field in table.schema} for table in (recorded, rebuilt)]
        changed = [f"column {text}" for text in value_differences(*columns)]
        return changed or ["the columns stand in another order, or have other metadata"]
    if recorded.num_rows != rebuilt.num_rows:
        return [f"{recorded.num_rows} rows became {rebuilt.num_rows}"]
    differences = []
    for name in recorded.column_names:
        old, new = recorded[name].combine_chunks(), rebuilt[name].combine_chunks()
        # Null and NaN differ from each other; each equals itself.
        both = pc.and_(pc.is_null(old, nan_is_null=True), pc.is_null(new, nan_is_null=True))
        same = pc.or_(pc.fill_null(pc.equal(old, new), False), pc.and_(both, pc.equal(old.is_null(), new.is_null())))
        rows = pc.indices_nonzero(pc.invert(same)).to_pylist()
        if rows:
            examples = "; ".join(f"row {row}: {old[row]} became {new[row]}" for row in rows[:EXAMPLES])
            differences.append(f"{name} differs in {len(rows)} of {recorded.num_rows} rows ({examples})")
    return differences


def _few(texts: list[str]) -> list[str]:
    more = len(texts) - EXAMPLES
    return [*texts[:EXAMPLES], f"and {more} more"] if more > 0 else texts
