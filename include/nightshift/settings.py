"""Runtime settings: one frozen model, one YAML file per environment.

Values come from `config/<environment>.yaml`, then environment variables `NIGHTSHIFT_<NAME>`, then
arguments of `Settings`; later ones override. The object store is configured by the variables of every S3 client:
AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY. Secrets come from the environment
or from Airflow connections, never from a file in git.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from nightshift.declare.discovery import PROJECT_ROOT
from nightshift.errors import ConfigurationError

Environment = Literal["dev", "test", "staging", "prod"]


class Settings(BaseSettings):
    """All settings. Arguments override environment variables; unknown names are rejected."""

    model_config = SettingsConfigDict(env_prefix="NIGHTSHIFT_", frozen=True, extra="forbid")

    environment: Environment = Field(default="dev", description="dev, test, staging or prod: the file in config/")
    bucket: str = Field(min_length=3, description="bucket for landing files and artifacts")
    s3_endpoint_url: str | None = Field(default=None, description="None: AWS_ENDPOINT_URL, else the SDK's default")
    s3_region: str = Field(default="us-east-1", description="region that requests are signed for")
    warehouse_url: SecretStr = Field(description="PostgreSQL URL of the warehouse")
    feast_registry_url: SecretStr | None = Field(default=None, description="None: the warehouse's database")
    feast_online_store: Literal["postgres", "redis"] = Field(
        default="postgres", description="where the online store is: the warehouse's database, or redis_url"
    )
    redis_url: SecretStr | None = Field(default=None, description="for the redis online store")
    mlflow_tracking_uri: str | None = Field(default=None, description="None: MLFLOW_TRACKING_URI")
    threads: int = Field(default=2, ge=1, description="threads one task may use")
    score_batch_rows: int = Field(default=50_000, ge=1, description="rows scored, audited and published together")
    history_chunk_days: int = Field(default=10, ge=1, description="days per mapped task of backfill_history")
    settle_seconds: int = Field(
        default=0, ge=0, description="age of the newest file of a delivery without an end mark before it is read"
    )
    alert_urls: SecretStr | None = Field(
        default=None, description="receivers of alerts: Apprise URLs, separated by spaces or commas"
    )
    metrics_token: SecretStr | None = Field(
        default=None, description="bearer token for /nightshift/metrics besides Airflow's own; None or empty: none"
    )

    @model_validator(mode="after")
    def _redis_has_an_address(self) -> Settings:
        if self.feast_online_store == "redis" and self.redis_url is None:
            raise ValueError("feast_online_store is redis, so redis_url (NIGHTSHIFT_REDIS_URL) is needed")
        return self


@cache
def load_settings() -> Settings:
    """Settings of this process, from the environment's YAML file and environment variables.

    Raises ConfigurationError that names each wrong or missing value.
    """
    environment = os.environ.get("NIGHTSHIFT_ENVIRONMENT", "dev")
    folder = Path(os.environ.get("NIGHTSHIFT_CONFIG_DIR", PROJECT_ROOT / "config"))
    path = folder / f"{environment}.yaml"
    if not path.exists():
        raise ConfigurationError("NS-SETTINGS-001", f"There is no {path}; NIGHTSHIFT_ENVIRONMENT is {environment!r}.")
    values = _values(path)
    try:
        # Both as arguments: the file's values alone as arguments would override the environment.
        return Settings(**(values | EnvSettingsSource(Settings)()))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ConfigurationError(
            "NS-SETTINGS-002",
            f"Settings for {environment!r} are not usable ({wrong}). "
            f"Set them in {path} or as NIGHTSHIFT_<NAME>; "
            'on a local machine run `make up` and `eval "$(make -s env)"`.',
        ) from None


def _values(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        # Not the error's own text, which quotes the file.
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise ConfigurationError("NS-SETTINGS-069", f"{path} cannot be read as YAML{place}. Correct it.") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ConfigurationError("NS-SETTINGS-070", f"{path} holds no names with values. Write `name: value` lines.")
    return values
