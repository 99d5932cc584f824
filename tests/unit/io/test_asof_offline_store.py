"""Row equality with Feast's own DuckDB store, on local Parquet files, through the public API of both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.filterwarnings(
    "ignore:fetch_arrow_table:DeprecationWarning",  # ibis, below Feast's own store
)

START = datetime(2020, 3, 8, tzinfo=UTC)
TTL = timedelta(hours=12)
FEATURES = ["daily:amount", "daily:count", "daily:tag", "forever:level", "pairs:score"]


class Stores:
    """The same definitions on the same files, once with each offline store."""

    def __init__(self, folder: Path) -> None:
        from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
        from feast.types import Float64, Int64, String

        self.folder = folder
        customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
        branch = Entity(name="branch", join_keys=["branch_id"], value_type=ValueType.INT64)

        def view(name: str, entities: list[Any], ttl: timedelta, fields: dict[str, Any]) -> FeatureView:
            keys = {"customer_id": String, "branch_id": Int64}
            own = {entity.join_key: keys[entity.join_key] for entity in entities}
            return FeatureView(
                name=name,
                entities=entities,
                ttl=ttl,
                schema=[Field(name=n, dtype=t) for n, t in {**own, **fields}.items()],
                source=FileSource(
                    name=name,
                    path=str(folder / f"{name}.parquet"),
                    timestamp_field="known_at",
                    created_timestamp_column="created_at" if name == "daily" else "",
                ),
            )

        self.views = [
            view("daily", [customer], TTL, {"amount": Float64, "count": Int64, "tag": String}),
            view("forever", [branch], timedelta(0), {"level": Float64}),
            view("pairs", [customer, branch], TTL, {"score": Float64}),
        ]

        def store(kind: str) -> FeatureStore:
            return FeatureStore(
                config=RepoConfig(
                    project="equality",
                    provider="local",
                    registry=str(folder / "registry.db"),
                    online_store=None,
                    offline_store={"type": kind},
                    entity_key_serialization_version=3,
                    repo_path=folder,
                )
            )

        self.ours = store("nightshift.io.feast.asof_offline_store.AsofOfflineStore")
        self.ours.apply([customer, branch, *self.views])
        self.feasts = store("duckdb")

    def write(self, name: str, frame: pd.DataFrame) -> None:
        times = {column: "datetime64[us, UTC]" for column in ("known_at", "created_at") if column in frame}
        frame.astype(times).to_parquet(self.folder / f"{name}.parquet", index=False)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    made = Stores(tmp_path_factory.mktemp("equality"))
    for name, frame in example_frames().items():
        made.write(name, frame)
    return made


def example_frames(seed: int = 7) -> dict[str, pd.DataFrame]:
    """Rows with gaps, nulls, NaNs, and (in `daily`) ties that the created time decides."""
    rng = np.random.default_rng(seed)
    n = 300
    at = pd.Series(START + pd.to_timedelta(rng.integers(0, 96, n), unit="h"))
    daily = pd.DataFrame(
        {
            "customer_id": rng.choice(["a", "b", "c", "d", None], n),
            "known_at": at,
            "created_at": at + pd.to_timedelta(np.arange(n), unit="s"),
            "amount": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
            "count": pd.array(np.where(rng.random(n) < 0.2, None, rng.integers(0, 9, n)), dtype="Int64"),
            "tag": rng.choice(["x", "ünï", "", None], n),
        }
    )
    forever = pd.DataFrame(
        {"branch_id": rng.integers(0, 5, 60), "known_at": at[:60], "level": rng.normal(size=60)}
    ).drop_duplicates(["branch_id", "known_at"])
    pairs = pd.DataFrame(
        {
            "customer_id": rng.choice(["a", "b"], n),
            "branch_id": rng.integers(0, 3, n),
            "known_at": at,
            "score": rng.normal(size=n),
        }
    ).drop_duplicates(["customer_id", "branch_id", "known_at"])
    return {"daily": daily, "forever": forever, "pairs": pairs}


def retrieve(store: Any, entities: pd.DataFrame) -> pd.DataFrame:
    return store.get_historical_features(entity_df=entities, features=FEATURES).to_df()


def assert_same_rows(left: pd.DataFrame, right: pd.DataFrame) -> None:
    """Equal up to the order of rows, which Feast's store does not keep."""

    def comparable(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.assign(event_timestamp=frame["event_timestamp"].astype("datetime64[us, UTC]").astype("int64"))
        frame = frame.astype(object).where(frame.notna(), None)
        return frame.sort_values("row", ignore_index=True)

    pd.testing.assert_frame_equal(comparable(left), comparable(right[left.columns]), check_dtype=False)


def entity_frame(rows: list[tuple[str | None, int, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["customer_id", "branch_id", "hour"])
    at = pd.to_datetime([START + timedelta(hours=row[2]) for row in rows], utc=True)
    return frame.drop(columns="hour").assign(event_timestamp=at, row=range(len(rows)))


ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", "unknown"]), st.integers(0, 6), st.integers(-5, 200)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS)
def test_the_same_rows_as_feasts_own_store(stores: Stores, rows: list[tuple[str, int, int]]) -> None:
    entities = entity_frame(rows)
    assert_same_rows(retrieve(stores.ours, entities), retrieve(stores.feasts, entities))


def test_the_comparison_covers_known_expired_and_missing_values(stores: Stores) -> None:
    rows = [(c, b, h) for c in ("a", "unknown") for b in (0, 9) for h in (-5, 50, 100, 500)]
    found = retrieve(stores.ours, entity_frame(rows))
    assert_same_rows(found, retrieve(stores.feasts, entity_frame(rows)))
    for column in ("amount", "level", "score"):
        assert found[column].isna().any()
        assert found[column].notna().any()


def test_rows_keep_their_order_and_features_their_types(stores: Stores) -> None:
    rows = [("a", 1, hour) for hour in (70, 3, 40, 3)]
    job = stores.ours.get_historical_features(entity_df=entity_frame(rows), features=FEATURES, full_feature_names=True)
    table = job.to_arrow()
    assert table["row"].to_pylist() == [0, 1, 2, 3]
    assert str(table.schema.field("daily__count").type) == "int64"
    assert str(table.schema.field("daily__tag").type) in ("string", "large_string")


def test_newest_rows_equal_those_of_feasts_own_store(stores: Stores) -> None:
    def pull(store: Any) -> pd.DataFrame:
        provider = store._get_provider()
        return provider.offline_store.pull_latest_from_table_or_query(
            config=store.config,
            data_source=stores.views[0].batch_source,
            join_key_columns=["customer_id"],
            feature_name_columns=["amount", "tag"],
            timestamp_field="known_at",
            created_timestamp_column="created_at",
            start_date=START + timedelta(hours=20),
            end_date=START + timedelta(hours=60),
        ).to_df()

    def comparable(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.sort_values("customer_id", ignore_index=True)[["customer_id", "amount", "tag", "known_at"]]
        return (
            frame.assign(known_at=pd.to_datetime(frame["known_at"], utc=True)).astype(object).where(frame.notna(), None)
        )

    ours, feasts = comparable(pull(stores.ours)), comparable(pull(stores.feasts))
    assert len(ours) == 5
    pd.testing.assert_frame_equal(ours, feasts, check_dtype=False)


def test_sql_as_entities_is_an_error(stores: Stores) -> None:
    with pytest.raises(NotImplementedError, match="data frame"):
        stores.ours.get_historical_features(entity_df="SELECT 1", features=FEATURES).to_df()
