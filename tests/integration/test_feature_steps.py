"""From curated partitions to training rows and the online store, on real services."""

from __future__ import annotations

import dataclasses
import json
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from feast import FeatureStore
from psycopg import sql
from pydantic import SecretStr

from nightshift.artifact import ArtifactRef, Decision
from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.errors import FeatureContractError, PartitionNotReady, PartitionRejected, WarehouseUnavailable
from nightshift.io import artifact_store
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.feast import feature_store
from nightshift.io.feast.feature_store import historical_features, open_feature_store
from nightshift.io.feast.offline_partitions import PublishedPartitions
from nightshift.services import curated
from nightshift.services.curated import delivered_spine, open_scoring_spine
from nightshift.settings import Settings
from nightshift.steps.context import StepContext
from nightshift.steps.materialize import build_features, load_online, publish_features
from nightshift.steps.train import append_training_rows
from support.curated_flights import deliveries, table
from support.errors import raises_code

USE_CASE = load_use_case("flight_delay")
FIRST = USE_CASE.first_partition
DAYS = 9
LAST = FIRST + timedelta(days=DAYS - 1)
REJECTED = FIRST + timedelta(days=3)
CURATED = deliveries(FIRST, DAYS)


def ingest(store: ArtifactStore, use_case: UseCase = USE_CASE, curated: dict[date, Any] = CURATED) -> None:
    """Curated partitions as `publish` commits them, one of them rejected."""
    for partition, tables in curated.items():
        files = {f"{feed}.parquet": rows for feed, rows in tables.items()}
        store.commit(use_case=use_case.name, step="publish", partition=partition, kind="curated", files=files)
    store.decide(use_case.name, "publish", REJECTED, Decision(status="rejected", reason="half a file"))


def materialize(store: ArtifactStore, settings: Settings, partition: date, use_case: UseCase = USE_CASE) -> ArtifactRef:
    built = build_features.run(StepContext(use_case, settings, store, partition))
    return publish_features.run(StepContext(use_case, settings, store, partition), features=built)


def materialize_all(store: ArtifactStore, settings: Settings) -> dict[date, ArtifactRef]:
    days = [day for day in CURATED if day != REJECTED]
    return {day: materialize(store, settings, day) for day in days}


def test_features_say_what_they_were_made_of(store: ArtifactStore, settings: Settings) -> None:
    ingest(store)
    published = materialize(store, settings, LAST)
    manifest = store.manifest(published)
    assert manifest.metrics["rows"]["plane"] == 24
    assert manifest.metrics["null_share"]["carrier_delays"]["carrier_late_rate_28d"] == 0.0
    built = store.manifest(manifest.inputs["features"][0])
    assert built.parameters["missing"] == [REJECTED.isoformat()]
    assert len(built.inputs["curated"]) == DAYS - 1
    assert built.inputs["curated"][-1] == store.current(USE_CASE.name, "publish", LAST)
    assert materialize(store, settings, LAST) == published


def test_gap_is_waited_for_and_a_rejection_is_not(store: ArtifactStore, settings: Settings) -> None:
    gap = FIRST + timedelta(days=2)
    ingest(store, curated={day: tables for day, tables in CURATED.items() if day != gap})
    with raises_code(PartitionNotReady, "NS-CURATE-012", gap):
        build_features.run(StepContext(USE_CASE, settings, store, LAST))
    ingest(store)
    with raises_code(PartitionRejected, "NS-FEATURE-018", "half a file"):
        build_features.run(StepContext(USE_CASE, settings, store, REJECTED))


def test_a_table_that_breaks_its_contract_is_not_published(store: ArtifactStore, settings: Settings) -> None:
    ingest(store)
    built = build_features.run(StepContext(USE_CASE, settings, store, LAST))
    manifest = store.manifest(built)
    files = {file.path: store.read_table(built, file.path) for file in manifest.files}
    files["plane.parquet"] = files["plane.parquet"].slice(1)
    short = store.commit(use_case=USE_CASE.name, step="build_features", partition=LAST, kind="features", files=files)
    with raises_code(FeatureContractError, "NS-FEATURE-004", "plane", "1 of 24"):
        publish_features.run(StepContext(USE_CASE, settings, store, LAST), features=short)
    assert store.decision(USE_CASE.name, "publish_features", LAST) is None


def test_features_do_not_depend_on_how_deliveries_are_read(
    store: ArtifactStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From tables that are kept in the process, or batch by batch from local copies."""
    ingest(store)
    context = StepContext(USE_CASE, settings, store, LAST)
    kept = build_features.run(context)
    monkeypatch.setattr(curated, "CACHED_ROWS", -1)
    assert build_features.run(context) == kept


def test_the_summary_is_of_what_was_delivered_whatever_sql_does(
    store: ArtifactStore, settings: Settings, tmp_path: Path
) -> None:
    ingest(store)
    ordinary = build_features.run(StepContext(USE_CASE, settings, store, LAST))
    prelude = tmp_path / "prelude.sql"
    text = USE_CASE.features.prelude.read_text(encoding="utf-8")
    prelude.write_text(f"{text};\ndelete from schedule;\nselect 1", encoding="utf-8")
    features = dataclasses.replace(USE_CASE.features, prelude=prelude)
    careless = dataclasses.replace(USE_CASE, features=features)
    built = build_features.run(StepContext(careless, settings, store, LAST))

    def summary(ref: ArtifactRef) -> pa.Table:
        rows = store.read_table(ref, "summary.parquet")
        return rows.filter(pc.equal(rows["source"], "schedule"))

    assert summary(built).num_rows > 1
    assert summary(built).equals(summary(ordinary))


def test_rows_of_another_day_publish_no_features(store: ArtifactStore, settings: Settings, tmp_path: Path) -> None:
    ingest(store)
    built = build_features.run(StepContext(USE_CASE, settings, store, LAST))
    spine = tmp_path / "spine.sql"
    text = USE_CASE.scoring_spine.read_text(encoding="utf-8")
    assert "(flight_date - 1)" in text
    spine.write_text(text.replace("(flight_date - 1)", "(flight_date - 2)"), encoding="utf-8")
    wrong = StepContext(dataclasses.replace(USE_CASE, scoring_spine=spine), settings, store, LAST)
    with raises_code(FeatureContractError, "NS-FEATURE-020", "spine.sql"):
        publish_features.run(wrong, features=built)
    assert store.decision(USE_CASE.name, "publish_features", LAST) is None


def test_training_rows_have_the_features_of_their_own_partition(store: ArtifactStore, settings: Settings) -> None:
    ingest(store)
    published = materialize_all(store, settings)
    ref = append_training_rows.run(StepContext(USE_CASE, settings, store, LAST))
    rows, manifest = store.read_table(ref, "rows.parquet"), store.manifest(ref)
    # Flights that landed after midnight are of the day before.
    days = rows["partition"].unique().to_pylist()
    assert days == [LAST - timedelta(days=2), LAST - timedelta(days=1)]
    assert manifest.inputs["features"] == [published[day] for day in days]
    assert manifest.parameters["missing"] == {}
    assert rows["known_on"].unique().to_pylist() == [LAST]
    assert rows["is_late"].type == pa.int64()
    assert {str(rows[name].type) for name in USE_CASE.features.numeric} == {"double"}
    order = [("partition", "ascending"), *((c.name, "ascending") for c in USE_CASE.prediction_key)]
    assert rows.equals(rows.sort_by(order))
    planes = {day: store.read_table(published[day], "plane.parquet").to_pylist() for day in days}
    seats = {(day, row["flight_id"]): row["typical_seats"] for day in days for row in planes[day]}
    assert rows.num_rows > 15
    for row in rows.to_pylist():
        flight_id = f"{row['flight_date']}|{row['carrier']}|{row['flight']}|{row['origin']}"
        assert row["typical_seats"] == seats[row["partition"], flight_id]
    assert append_training_rows.run(StepContext(USE_CASE, settings, store, LAST)) == ref

    # Columns of the key that are features as well are there once.
    assert {"carrier", "origin"} <= {*USE_CASE.key_columns} & {*USE_CASE.features.categorical}
    assert len(rows.column_names) == len(set(rows.column_names))

    after = append_training_rows.run(StepContext(USE_CASE, settings, store, REJECTED + timedelta(days=1)))
    assert REJECTED not in store.read_table(after, "rows.parquet")["partition"].to_pylist()
    assert store.manifest(after).parameters["missing"] == {REJECTED.isoformat(): "half a file"}


def test_only_what_a_decision_names_is_read(store: ArtifactStore, settings: Settings) -> None:
    ingest(store)
    first = materialize(store, settings, LAST)
    carrier = table("airlines", [{"carrier": "UA"}]).select(["carrier"])
    stamps = pa.array([USE_CASE.cutoff(LAST)], pa.timestamp("us", tz="UTC"))
    spine = pa.table(
        {
            "carrier": carrier["carrier"],
            "event_timestamp": stamps,
            **{key: pa.array(["none"]) for key in ("flight_id", "origin", "dest", "route")},
        }
    )

    def rate(**pins: Any) -> float | None:
        joined = historical_features(USE_CASE, settings, store, "flight_delay_v1", spine, **pins)
        return joined["carrier_late_rate_28d"][0].as_py()

    before = rate()
    later = deliveries(FIRST, DAYS, seed=11)
    ingest(store, curated=later)
    second = materialize(store, settings, LAST)
    assert second != first
    assert rate() != before
    assert rate(partitions={LAST: first}) == before
    assert rate(partitions={LAST: second}) == rate()
    # The values of the partition before have not expired, but are not those of the row's own partition.
    earlier = materialize(store, settings, LAST - timedelta(days=1))
    assert rate(partitions={LAST - timedelta(days=1): earlier}) is None


def test_spine_in_batches_is_the_spine(store: ArtifactStore, settings: Settings) -> None:
    ingest(store)
    whole = delivered_spine(USE_CASE, store, LAST, USE_CASE.scoring_spine)
    with open_scoring_spine(USE_CASE, store, LAST) as spine:
        batches = list(spine.batches(7))
        assert (spine.rows, spine.refs, spine.rejected) == (whole.rows.num_rows, whole.refs, "")
        # A second pass, and one that is left early.
        next(spine.batches(7))
        assert pa.concat_tables(spine.batches(10)) == whole.rows
    assert {batch.num_rows for batch in batches[:-1]} == {7}
    assert pa.concat_tables(batches) == whole.rows
    with open_scoring_spine(USE_CASE, store, REJECTED) as rejected:
        assert rejected.rejected == "half a file"
        assert [batch.num_rows for batch in rejected.batches(7)] == [0]


def test_features_read_for_a_batch_are_those_read_for_all(
    store: ArtifactStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_store, "ROW_GROUP_ROWS", 5)
    ingest(store)
    pins = {LAST: materialize(store, settings, LAST)}
    spine = delivered_spine(USE_CASE, store, LAST, USE_CASE.scoring_spine).rows
    whole = historical_features(USE_CASE, settings, store, "flight_delay_v1", spine, partitions=pins)
    read: list[int] = []
    with ExitStack() as copies:
        partitions = PublishedPartitions(store, pins, copies)
        real = partitions._read_file
        monkeypatch.setattr(partitions, "_read_file", lambda *args: read.append((rows := real(*args)).num_rows) or rows)
        parts = [
            historical_features(USE_CASE, settings, store, "flight_delay_v1", batch, partitions=partitions)
            for start in range(0, spine.num_rows, 6)
            if (batch := spine.slice(start, 6)).num_rows
        ]
        copied = len(partitions._copied)
    assert pa.concat_tables(parts) == whole
    assert len(parts) > 2
    assert max(read) <= 6
    assert copied == len(read) / len(parts)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (feature_store, "_apply_if_changed"),
        (FeatureStore, "get_feature_service"),
        (FeatureStore, "get_historical_features"),
    ],
    ids=["opened", "looked up", "joined"],
)
def test_features_are_read_after_the_registrys_database_was_away(
    store: ArtifactStore,
    settings: Settings,
    empty_registry: SecretStr,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
) -> None:
    apart = settings.model_copy(update={"feast_registry_url": empty_registry})
    ingest(store)
    pins = {FIRST: materialize(store, settings, FIRST)}
    spine = delivered_spine(USE_CASE, store, FIRST, USE_CASE.scoring_spine).rows
    database = urlsplit(empty_registry.get_secret_value()).path.lstrip("/")
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    real = getattr(owner, name)

    def features() -> pa.Table:
        return historical_features(USE_CASE, apart, store, "flight_delay_v1", spine, partitions=pins)

    with psycopg.connect(settings.warehouse_url.get_secret_value(), autocommit=True) as connection:

        def after_it_went_away(*args: Any, **kwargs: Any) -> Any:
            connection.execute(allow.format(sql.Identifier(database), False))
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, after_it_went_away)
            with raises_code(WarehouseUnavailable, "NS-FEATURE-022", database):
                features()
        connection.execute(allow.format(sql.Identifier(database), True))
    assert features().num_rows == spine.num_rows > 0


def test_the_online_store_holds_the_newest_partition(
    store: ArtifactStore, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    ingest(store)
    published = materialize_all(store, settings)
    feast = open_feature_store(USE_CASE, settings)

    def load(partition: date) -> tuple[ArtifactRef, bool]:
        ref = load_online.run(StepContext(USE_CASE, settings, store, partition), published=published[partition])
        return ref, store.manifest(ref).metrics["loaded"]

    def online() -> Any:
        asked = ["carrier_delays:carrier_late_rate_28d"]
        return feast.get_online_features(asked, [{"carrier": "AA"}]).to_dict()["carrier_late_rate_28d"][0]

    def offline(partition: date) -> Any:
        rows = store.read_table(published[partition], "carrier_delays.parquet").to_pylist()
        return next(row["carrier_late_rate_28d"] for row in rows if row["carrier"] == "AA")

    earlier = LAST - timedelta(days=4)
    ref, loaded = load(earlier)
    assert loaded
    assert json.loads(store.read(ref, "online_load.json"))["plane"] == 24
    assert online() == offline(earlier)
    first, loaded = load(LAST)
    assert loaded
    assert online() == offline(LAST) != offline(earlier)
    # Flights of four days before have expired by then and are gone; carriers were overwritten.
    assert store.manifest(first).metrics["expired"]["plane"] == 24 * 4
    assert load(LAST) == (first, True)
    caplog.clear()
    assert load(earlier) == (ref, True)  # the artifact of the first time: nothing about it changed
    assert "not loaded" in caplog.text
    assert online() == offline(LAST)
