"""What flight_delay declares, what its SQL returns and what Feast is told must be one thing."""

from __future__ import annotations

import pyarrow as pa
import pytest

from flight_delay.features import FALLBACK_FEATURES
from nightshift.declare.discovery import load_use_case
from nightshift.errors import ConfigurationError
from nightshift.io.feast.feature_store import declared_views
from nightshift.io.feast.offline_partitions import ArtifactSource
from support.errors import raises_code

USE_CASE = load_use_case("flight_delay")


def test_the_service_serves_exactly_the_declared_features() -> None:
    views = declared_views(USE_CASE)
    assert {name: view.join_keys for name, view in views.items()} == {
        table.name: table.join_keys for table in USE_CASE.features.tables
    }
    fields = [(name, type_) for view in views.values() for name, type_ in view.fields.items()]
    features = [name for name, type_ in fields if type_ == pa.float64()]
    assert sorted(features) == sorted(USE_CASE.features.numeric)
    assert {name for name, type_ in fields if type_ == pa.string()} == {
        key for table in USE_CASE.features.tables for key in table.join_keys
    }


def test_fallback_features_are_features() -> None:
    assert USE_CASE.fallback.numeric == FALLBACK_FEATURES
    assert set(FALLBACK_FEATURES) <= set(USE_CASE.features.numeric)


def test_a_source_is_one_file_of_a_step() -> None:
    source = ArtifactSource.parse("artifacts://flight_delay/publish_features/plane.parquet")
    assert source == ArtifactSource("flight_delay", "publish_features", "plane.parquet")


@pytest.mark.parametrize("path", ["s3://bucket/plane.parquet", "artifacts://flight_delay", "artifacts://a/b", "plane"])
def test_another_path_is_an_error(path: str) -> None:
    with raises_code(ConfigurationError, "NS-FEATURE-015", path):
        ArtifactSource.parse(path)
