"""What interrupted commits leave behind is found and deleted, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nightshift import cli
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import ObjectInfo
from nightshift.local import backup_commands
from nightshift.services.lineage import trace
from nightshift.services.orphans import delete_orphans, find_orphans
from support.desk import D, Desk, begin, days_after


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """A published night, and one whose curated artifact was superseded."""
    begin(desk)
    desk.night(D)
    desk.deliver(days_after(1), bookings=30)
    desk.deliver(days_after(1))
    return desk


def found(desk: Desk, days: float = -1) -> list[ObjectInfo]:
    """Orphans older than that; of minus one day: of any age."""
    older_than = desk.store.clock() - timedelta(days=days)
    return find_orphans(desk.use_case, desk.warehouse, desk.store, older_than)


def interrupt_a_commit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Deliver a partition; the process ends before the manifest is written. Returns the keys of what is left."""
    before = set(keys(desk.store))
    put = desk.store.put

    def interrupted(key: str, body: bytes, **options: object) -> bool:
        if key.endswith("manifest.json"):
            raise KeyboardInterrupt
        return put(key, body, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(desk.store, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            desk.deliver(days_after(2))
    return {key for key in set(keys(desk.store)) - before if not key.startswith("landing/")}


def keys(store: ArtifactStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


def test_an_interrupted_commit_is_an_orphan(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(desk) == []
    before = set(keys(desk.store))
    left = interrupt_a_commit(desk, monkeypatch)
    assert len(left) == 2
    orphans = found(desk)
    assert {info.key for info in orphans} == left
    assert delete_orphans(desk.store, orphans) == orphans
    assert {key for key in keys(desk.store) if "dt=2020-03-22" not in key} == before
    desk.night(days_after(2))
    for day in (1, 3):
        key = {"booking_date": str(days_after(day)), "booking": "7"}
        assert "every hash is the one" in trace(desk.use_case, desk.settings, desk.store, key)


def test_a_commit_under_way_is_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_a_commit(desk, monkeypatch)
    assert found(desk, days=1) == []
    orphans = found(desk)
    desk.deliver(days_after(2))
    before = keys(desk.store)
    assert delete_orphans(desk.store, orphans) == []
    assert keys(desk.store) == before


@pytest.mark.parametrize("step", ["publish", "score", "fit", "publish_predictions"])
def test_what_is_named_is_none_without_its_manifest(desk: Desk, step: str) -> None:
    """Named by another manifest, a publication, a decision, or a status alone."""
    infos = desk.store.list(f"{desk.store.step_prefix(desk.use_case.name, step)}")
    manifests = [
        info.key for info in infos if info.key.endswith("/manifest.json") and str(days_after(1)) not in info.key
    ]
    for key in manifests:
        desk.store.delete(key)
    assert manifests
    assert found(desk) == []


def test_what_others_write_is_not_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    left = interrupt_a_commit(desk, monkeypatch)
    for folder in ("landing/any", "mlflow/1"):
        desk.store.put(f"{folder}/manifest.json", b"\xff\xfe")
    assert {info.key for info in found(desk)} == left


def test_what_only_a_superseded_artifact_names_is_none(desk: Desk) -> None:
    """The first delivery of the second partition: the features that were computed from it were superseded as well."""
    name = desk.use_case.name
    folder = f"{desk.store.step_prefix(name, 'publish')}{days_after(1)}/"
    current = desk.store.key(desk.store.current(name, "publish", days_after(1)).uri)
    (superseded,) = {f"{folder}{one}/" for one in desk.store.folders(folder)} - {current}
    desk.store.delete(f"{superseded}manifest.json")
    assert found(desk) == []


def test_what_only_a_decision_names_is_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = desk.use_case.challengers[0]
    version = desk.register(spec, D, role="challenger").model
    assert version is not None
    desk.store.delete(desk.store.key(version.uri) + "manifest.json")
    desk.store.delete(f"{desk.store.step_prefix(desk.use_case.name, 'fit')}{D}/current-{spec.spec_id}.json")
    assert found(desk) == []
    monkeypatch.setattr(desk.warehouse, "artifact_names", lambda: "")
    assert {desk.store.uri(info.key).removeprefix(version.uri) for info in found(desk)} >= {"model.onnx", "spec.json"}


def test_maintenance_lists_and_deletes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = interrupt_a_commit(desk, monkeypatch)
    monkeypatch.setattr(backup_commands, "load_use_case", lambda name: desk.use_case)
    command = ["maintenance", desk.use_case.name]
    assert cli.main([*command, "--delete"]) == 0
    assert capsys.readouterr().out == "0 orphans, 0.0 MB, deleted.\n"
    assert cli.main([*command, "--days", "-1"]) == 0
    assert "2 orphans" in capsys.readouterr().out
    assert left < set(keys(desk.store))
    assert cli.main([*command, "--days", "-1", "--delete"]) == 0
    assert not left & set(keys(desk.store))
    assert all(desk.store.uri(key) in capsys.readouterr().out for key in sorted(left)[:1])


def test_only_objects_of_the_use_case_are_found(desk: Desk) -> None:
    desk.store.put(f"other/score/{D}/0123456789abcdef/scores.parquet", b"x")
    desk.store.put(f"other/predict/score/{D}/0123456789abcdef/scores.parquet", b"x")
    assert found(desk) == []
