"""Artifacts on a real S3 server."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pyarrow as pa
import pytest

from nightshift.artifact import ArtifactRef, Attempt, Decision
from nightshift.errors import ArtifactCorrupt, ConfigurationError, PartitionNotReady, StatusChanged, StoreUnavailable
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.provenance import CURRENT_ATTEMPT
from support.errors import raises_code
from support.history import empty_bucket

DAY = date(2013, 5, 31)
TABLE = pa.table({"a": [1, 2, 3]})


def commit(store, use_case, **changes):
    arguments = {
        "use_case": use_case,
        "step": "land",
        "partition": DAY,
        "kind": "landed",
        "files": {"a.parquet": TABLE, "notes/b.txt": b"hello"},
        "parameters": {"x": 1},
        "rows": 3,
    }
    return store.commit(**(arguments | changes))


@pytest.fixture
def use_case(request) -> str:
    return f"case-{abs(hash(request.node.name)) % 10**8}"


def test_what_was_committed_reads_back(store, use_case):
    ref = commit(store, use_case)
    assert store.current(use_case, "land", DAY) == ref
    assert store.read_table(ref, "a.parquet").equals(TABLE)
    assert store.read(ref, "notes/b.txt") == b"hello"
    manifest = store.manifest(ref)
    assert manifest.stage == "ingest"
    assert [f.rows for f in manifest.files] == [3, None]
    assert manifest.libraries["pyarrow"] == pa.__version__


def test_committing_again_keeps_the_first_manifest(store, use_case):
    token = CURRENT_ATTEMPT.set(Attempt(run_id="first"))
    first = commit(store, use_case)
    CURRENT_ATTEMPT.set(Attempt(run_id="second"))
    second = commit(store, use_case)
    CURRENT_ATTEMPT.reset(token)
    assert first == second
    assert store.manifest(second).attempt.run_id == "first"
    assert len(store.folders(f"{use_case}/ingest/land/{DAY}/")) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"x": 2}},
        {"files": {"a.parquet": TABLE, "notes/b.txt": b"hullo"}},
        {"inputs": {"landed": [ArtifactRef(uri="s3://b/k", sha256="0", kind="landed_file")]}},
        {"variant": "v"},
    ],
)
def test_any_difference_makes_another_artifact(store, use_case, change):
    assert commit(store, use_case).sha256 != commit(store, use_case, **change).sha256


def test_metrics_and_timings_do_not(store, use_case):
    assert commit(store, use_case) == commit(store, use_case, metrics={"seconds": 1.5})


def test_changed_bytes_are_noticed(store, use_case):
    ref = commit(store, use_case)
    store.put(store.key(ref.uri) + "notes/b.txt", b"tampered")
    with raises_code(ArtifactCorrupt, "NS-STORE-018", "notes/b.txt"):
        store.read(ref, "notes/b.txt")


def test_a_local_file_is_the_same_artifact_as_its_bytes(store, use_case, tmp_path):
    file = tmp_path / "notes"
    file.write_bytes(bytes(range(256)) * 10_000)
    files = {"notes/b.bin": file.read_bytes()}
    ref = store.commit(use_case=use_case, step="land", partition=DAY, kind="landed", files=files)
    again = store.commit(use_case=use_case, step="land", partition=DAY, kind="landed", files={"notes/b.bin": file})
    assert again == ref
    with store.opened(ref, "notes/b.bin") as copy:
        assert copy.read_bytes() == file.read_bytes()
    assert not copy.exists()


def test_a_large_local_file_is_written(store, use_case, tmp_path):
    file = tmp_path / "large"
    file.write_bytes(b"0123456789abcdef" * 2**20)
    ref = store.commit(use_case=use_case, step="land", partition=DAY, kind="landed", files={"large": file})
    with store.opened(ref, "large") as copy:
        assert copy.stat().st_size == 2**24


def test_copy_of_a_changed_file_is_not_used(store, use_case):
    ref = commit(store, use_case)
    store.put(store.key(ref.uri) + "notes/b.txt", b"hellO")
    with raises_code(ArtifactCorrupt, "NS-STORE-018"), store.opened(ref, "notes/b.txt"):
        pytest.fail("was opened")
    store.delete(store.key(ref.uri) + "notes/b.txt")
    with raises_code(ArtifactCorrupt, "NS-STORE-018"), store.opened(ref, "notes/b.txt"):
        pytest.fail("was opened")


def test_a_file_without_a_manifest_is_not_trusted(store, use_case):
    ref = commit(store, use_case)
    store.put(store.key(ref.uri) + "stray.txt", b"stray")
    with raises_code(ArtifactCorrupt, "NS-STORE-017", "stray.txt"):
        store.read(ref, "stray.txt")
    with raises_code(ArtifactCorrupt, "NS-STORE-015", "/nowhere/"):
        store.manifest(ref.model_copy(update={"uri": ref.uri.replace("/land/", "/nowhere/")}))


def test_of_many_writers_of_an_immutable_object_one_wins(store, use_case):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: store.put(f"{use_case}/once", str(n).encode(), immutable=True), range(8)))
    assert won.count(True) == 1
    assert store.get(f"{use_case}/once") == str(won.index(True)).encode()


def test_of_many_that_replace_one_status_one_wins(store, use_case):
    """Each has read the same status before: the others are told that it has changed since."""
    for before in ("", "first"):
        if before:
            store.decide(use_case, "publish", DAY, Decision(status="rejected", reason=before))
        tag = store.status_tag(use_case, "publish", DAY)
        assert bool(tag) == bool(before)

        def replace(number, tag=tag):
            try:
                decided = Decision(status="rejected", reason=f"{tag} {number}")
                return store.decide(use_case, "publish", DAY, decided, replaces=tag)
            except StatusChanged as error:
                return error.code

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(replace, range(8)))
        assert sorted(map(str, results)) == ["NS-STORE-067"] * 7 + ["True"]
        decision = store.decision(use_case, "publish", DAY)
        assert decision == Decision(status="rejected", reason=f"{tag} {results.index(True)}")
        # A retry of the one that won, whose answer was lost.
        assert store.decide(use_case, "publish", DAY, decision, replaces=tag)
        empty_bucket(store)


def test_a_status_that_is_gone_is_not_replaced(store, use_case):
    commit(store, use_case)
    tag = store.status_tag(use_case, "land", DAY)
    empty_bucket(store)
    with raises_code(StatusChanged, "NS-STORE-067"):
        commit(store, use_case, replaces=tag)
    assert store.decision(use_case, "land", DAY) is None


def test_a_partition_without_decision_says_what_to_run(store, use_case):
    with raises_code(PartitionNotReady, "NS-STORE-019", DAY, f"{use_case}.ingest"):
        store.current(use_case, "publish", DAY)
    store.decide(use_case, "publish", DAY, Decision(status="rejected", reason="half a file"))
    with raises_code(PartitionNotReady, "NS-STORE-019", "half a file"):
        store.current(use_case, "publish", DAY)


def test_listings_are_sorted(store, use_case):
    for name in ("b", "a/z", "a", "c"):
        store.put(f"{use_case}/list/{name}", b"")
    keys = [info.key.removeprefix(f"{use_case}/list/") for info in store.list(f"{use_case}/list/")]
    assert keys == sorted(keys)
    assert len(keys) == 4


def test_another_bucket_is_an_error(store):
    with raises_code(ConfigurationError, "NS-STORE-010", "s3://elsewhere/key"):
        store.key("s3://elsewhere/key")


def test_a_store_that_is_not_there_is_transient(settings):
    with raises_code(StoreUnavailable, "NS-STORE-014", "http://127.0.0.1:9"):
        ArtifactStore(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})).get("x")


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_keys_that_are_being_rotated_are_transient(store, settings, monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setenv(name, "wrong")
        rotated = ArtifactStore(settings)
        with raises_code(StoreUnavailable, "NS-STORE-012"):
            rotated.get("x")
        with raises_code(StoreUnavailable, "NS-STORE-012"):
            rotated.put("x", b"")
    assert ArtifactStore(settings).get("x") is None
