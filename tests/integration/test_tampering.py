"""What was changed in the bucket after it was committed is an error where it is read, not only in lineage."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nightshift.artifact import ArtifactRef, sha256_hex
from nightshift.declare.discovery import PROJECT_ROOT
from nightshift.errors import ArtifactCorrupt, AuditFailed, DataContractError
from nightshift.io.artifact_store import ArtifactStore
from support.desk import BOOKINGS, TERRIBLE, D, Desk, begin
from support.errors import raises_code
from support.history import TRAINED
from support.nights import Nights


def edit_manifest(store: ArtifactStore, ref: ArtifactRef, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest in place. Stores opened before may have a copy of it."""
    key = store.key(ref.uri) + "manifest.json"
    manifest = json.loads(store.get(key) or b"")
    change(manifest)
    store.put(key, json.dumps(manifest).encode())
    store._manifests.clear()


def swap(store: ArtifactStore, ref: ArtifactRef, path: str, body: bytes) -> None:
    """Replace a file of an artifact, and its hash and size in the manifest."""

    def restate(manifest: dict[str, Any]) -> None:
        entry = next(one for one in manifest["files"] if one["path"] == path)
        entry |= {"sha256": sha256_hex(body), "bytes": len(body)}

    store.put(store.key(ref.uri) + path, body)
    edit_manifest(store, ref, restate)


def test_swapped_graph_is_not_scored(desk: Desk) -> None:
    registered = begin(desk)
    desk.deliver(D)
    choice = desk.choose(D)
    assert registered.model is not None
    swap(desk.store, registered.model, "model.onnx", TERRIBLE)
    with raises_code(ArtifactCorrupt, "NS-STORE-016", registered.model.uri):
        desk.score(D, choice)


def test_audit_edited_to_passed_publishes_nothing(desk: Desk) -> None:
    begin(desk)
    desk.deliver(D, bookings=BOOKINGS - 1)
    scores = desk.score(D, desk.choose(D))
    desk.deliver(D)
    with raises_code(AuditFailed, "NS-PUBLISH-004"):
        desk.step("audit", D, scores=scores)
    decision = desk.store.decision(desk.use_case.name, "audit", D)
    assert decision is not None
    assert decision.ref is not None
    audited = decision.ref
    edit_manifest(desk.store, audited, lambda manifest: manifest["metrics"].update(passed=True, failed=[]))
    # What the scores were made from counts again: the audit alone stops them.
    desk.deliver(D, bookings=BOOKINGS - 1)
    with raises_code(AuditFailed, "NS-PUBLISH-002"):
        desk.step("publish_predictions", D, scores=scores, audited=audited)
    checks = [check | {"passed": True} for check in desk.read(audited, "audit.json")]
    swap(desk.store, audited, "audit.json", json.dumps(checks).encode())
    with raises_code(ArtifactCorrupt, "NS-STORE-016", audited.uri):
        desk.step("publish_predictions", D, scores=scores, audited=audited)
    assert desk.count("predictions") == 0


def test_edited_gate_results_register_nothing(trained_nights: Nights) -> None:
    nights, store, use_case = trained_nights, trained_nights.store, trained_nights.use_case
    spec_id = use_case.champion.spec_id
    verified = store.current(use_case.name, "verify", TRAINED, variant=spec_id)

    def turn_over(manifest: dict[str, Any]) -> None:
        manifest["metrics"]["gates"][0]["verdict"] = "fail"

    edit_manifest(store, verified, turn_over)
    with raises_code(ArtifactCorrupt, "NS-STORE-066", verified.uri):
        nights.step("register", TRAINED, verified=[verified])
    document = json.loads(store.read(verified, "verification.json"))
    document["gates"][0]["verdict"] = "fail"
    swap(store, verified, "verification.json", json.dumps(document).encode())
    with raises_code(ArtifactCorrupt, "NS-STORE-016", verified.uri):
        nights.step("register", TRAINED, verified=[verified])


def test_rows_removed_after_landing_are_missed(untrained_nights: Nights, tmp_path: Path) -> None:
    """Also if the numbers in the metrics were made to fit."""
    nights = untrained_nights
    nights.deliver([TRAINED])
    landed = nights.step("land", TRAINED)
    profiled, validated = (nights.step(name, TRAINED, landed=landed) for name in ("profile", "validate"))
    rows = nights.store.read_table(landed, "returns.parquet")
    shorter = tmp_path / "returns.parquet"
    pq.write_table(rows.slice(1), shorter)

    @contextmanager
    def fewer(ref: ArtifactRef, path: str) -> Iterator[Path]:
        with ArtifactStore.opened(nights.store, ref, path) as copy:
            yield shorter if (ref, path) == (landed, "returns.parquet") else copy

    edit_manifest(nights.store, landed, lambda one: one["metrics"]["returns"].update(delivered=rows.num_rows - 1))
    nights.store.opened = fewer  # type: ignore[method-assign]
    with raises_code(DataContractError, "NS-CURATE-010", "returns"):
        nights.step("publish", TRAINED, validated=validated, profiled=profiled)


@pytest.mark.parametrize("room", ["include", "dags", "plugins", "feature_repo"])
def test_nothing_is_unpickled(room: str) -> None:
    """No module imports what loads pickles; the explicit `allow_pickle=False` of numpy stays."""
    loading = {"pickle", "cPickle", "_pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal", "skops"}
    for path in (PROJECT_ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not loading & {name.partition(".")[0] for name in names}, path
            assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle" and node.value.value), path  # type: ignore[attr-defined]
