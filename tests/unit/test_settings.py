"""Settings: where values come from, and what is an error."""

import pytest
from pydantic import SecretStr

from nightshift.errors import ConfigurationError
from nightshift.settings import Settings, load_settings
from support.errors import raises_code


@pytest.fixture
def environment(monkeypatch, tmp_path):
    (tmp_path / "test.yaml").write_text("environment: test\nbucket: from-file\nthreads: 3\n", encoding="utf-8")
    for name in ("BUCKET", "THREADS", "WAREHOUSE_URL"):
        monkeypatch.delenv(f"NIGHTSHIFT_{name}", raising=False)
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENT", "test")
    monkeypatch.setenv("NIGHTSHIFT_CONFIG_DIR", str(tmp_path))
    load_settings.cache_clear()
    yield monkeypatch
    load_settings.cache_clear()


def test_the_environment_wins_over_the_file(environment):
    environment.setenv("NIGHTSHIFT_WAREHOUSE_URL", "postgresql://user:secret@host/db")
    environment.setenv("NIGHTSHIFT_BUCKET", "from-environment")
    settings = load_settings()
    assert (settings.bucket, settings.threads) == ("from-environment", 3)
    assert settings == Settings(threads=3)


def test_the_file_gives_what_the_environment_does_not(environment):
    environment.setenv("NIGHTSHIFT_WAREHOUSE_URL", "postgresql://host/db")
    assert load_settings().bucket == "from-file"


def test_arguments_win_over_the_environment(environment):
    environment.setenv("NIGHTSHIFT_WAREHOUSE_URL", "postgresql://somebody@elses/warehouse")
    environment.setenv("NIGHTSHIFT_BUCKET", "from-environment")
    environment.setenv("NIGHTSHIFT_THREADS", "5")
    settings = Settings(bucket="stated", warehouse_url=SecretStr("postgresql://own/warehouse"))
    assert settings.warehouse_url.get_secret_value() == "postgresql://own/warehouse"
    assert (settings.bucket, settings.threads, settings.environment) == ("stated", 5, "test")


def test_a_missing_value_is_named_with_how_to_set_it(environment):
    with raises_code(ConfigurationError, "NS-SETTINGS-002", "warehouse_url", "NIGHTSHIFT_<NAME>"):
        load_settings()


def test_unknown_name_is_an_error(environment, tmp_path):
    (tmp_path / "test.yaml").write_text("bucket: bucket\nbukcet: typo\n", encoding="utf-8")
    environment.setenv("NIGHTSHIFT_WAREHOUSE_URL", "postgresql://host/db")
    with raises_code(ConfigurationError, "NS-SETTINGS-002", "bukcet"):
        load_settings()


def test_unknown_environment_is_an_error(environment):
    environment.setenv("NIGHTSHIFT_ENVIRONMENT", "moon")
    with raises_code(ConfigurationError, "NS-SETTINGS-001", "moon.yaml"):
        load_settings()


def test_redis_needs_an_address(environment):
    environment.setenv("NIGHTSHIFT_WAREHOUSE_URL", "postgresql://host/db")
    environment.setenv("NIGHTSHIFT_FEAST_ONLINE_STORE", "redis")
    with raises_code(ConfigurationError, "NS-SETTINGS-002", "NIGHTSHIFT_REDIS_URL"):
        load_settings()


def test_secrets_do_not_show(environment):
    environment.setenv("NIGHTSHIFT_WAREHOUSE_URL", "postgresql://user:secret@host/db")
    settings = load_settings()
    assert "secret" not in repr(settings)
    assert "secret" not in settings.model_dump_json()


def test_a_wrong_value_does_not_show_either(environment):
    environment.setenv("NIGHTSHIFT_WAREHOUSE_URL", "postgresql://user:secret@host/db")
    environment.setenv("NIGHTSHIFT_THREADS", "many")
    with raises_code(ConfigurationError, "NS-SETTINGS-002", "threads") as error:
        load_settings()
    assert "secret" not in str(error.value)
