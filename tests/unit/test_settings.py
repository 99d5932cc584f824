"""Settings: where values come from, and what is an error."""

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from nightshift.errors import ConfigurationError, NightshiftError
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


SECRET = "never-to-be-shown"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
NAMES = st.sampled_from(sorted(Settings.model_fields)) | st.text(max_size=12)
any_example = hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def accepted_or_rejected() -> None:
    load_settings.cache_clear()
    try:
        shown = repr(load_settings())
    except NightshiftError as error:
        code, shown = error.code, str(error)
    else:
        code = "NS-SETTINGS-"
    assert code.startswith("NS-SETTINGS-")
    assert SECRET not in shown


@any_example
@given(content=st.binary(max_size=60) | st.dictionaries(NAMES, VALUES, max_size=5).map(lambda v: yaml.dump(v).encode()))
def test_any_file_is_accepted_or_rejected(content, environment, tmp_path):
    environment.setenv("NIGHTSHIFT_WAREHOUSE_URL", f"postgresql://user:{SECRET}@host/db")
    (tmp_path / "test.yaml").write_bytes(content)
    accepted_or_rejected()


@any_example
@given(
    name=st.sampled_from(sorted(Settings.model_fields)),
    value=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
)
def test_any_environment_is_accepted_or_rejected(name, value, environment):
    environment.setenv("NIGHTSHIFT_WAREHOUSE_URL", f"postgresql://user:{SECRET}@host/db")
    with environment.context() as patch:
        patch.setenv(f"NIGHTSHIFT_{name.upper()}", value)
        accepted_or_rejected()
