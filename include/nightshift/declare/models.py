"""Model specs: what is trained, as data. A spec fitted by the training of one partition is a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from nightshift.artifact import Document, Value, canonical_json, sha256_hex
from nightshift.errors import ConfigurationError

Scalar = int | float | str | bool | None
Hyperparameters = Mapping[str, Scalar | Sequence[Scalar | Sequence[Scalar]] | Mapping[str, Scalar]]
"""Settings of an estimator or technique, by name."""


def number(parameters: Hyperparameters, name: str) -> int | float:
    """A hyperparameter that is one number. Raises ConfigurationError for another value."""
    return _number(name, parameters[name])


def numbers(parameters: Hyperparameters, name: str) -> tuple[int | float, ...]:
    """A hyperparameter that is a number, or several. Raises ConfigurationError for another value."""
    value = parameters[name]
    return tuple(_number(name, one) for one in (value if isinstance(value, list | tuple) else (value,)))


def _number(name: str, value: object) -> int | float:
    if not isinstance(value, int | float):
        raise ConfigurationError("NS-MODEL-024", f"The hyperparameter {name} must be a number, not {value!r}.")
    return value


class CalibrationSpec(Value):
    """How scores are recalibrated from matured labels: an intercept (and a slope) on the log odds.

    A partition's labels count half as much for each `half_life_days` they are older. `prior_days` partitions
    of perfectly calibrated labels are added to the observed ones: they shrink the intercept towards 0
    and the slope towards 1. `half_life_days` 0 means no calibration.
    """

    half_life_days: float = Field(default=5.0, ge=0)
    prior_days: float = Field(default=1.0, ge=0)
    slope: bool = False


class ModelSpec(Document):
    """What is trained: features, estimators, parameters, weights, window, compression, calibration, seed.

    `numeric` and `categorical` empty: all features of the use case. Several `estimators` are blended: the
    score is the mean of their log odds. `parameters` are hyperparameters by estimator or technique that override
    the defaults. `compression` is a chain: a student (distilled from the estimators), then techniques
    applied in turn. Training rows lose half their weight for each `half_life_days` of age (None: equal
    weights); rows older than `window_days` partitions are left out (None: all are used).
    """

    FILE: ClassVar[str] = "spec.json"

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    estimators: tuple[str, ...] = Field(min_length=1)
    feature_service: str = ""
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    parameters: Mapping[str, Hyperparameters] = Field(default_factory=dict)
    compression: tuple[str, ...] = ()
    half_life_days: float | None = Field(default=None, gt=0)
    window_days: int | None = Field(default=None, ge=1)
    calibration: CalibrationSpec = CalibrationSpec()
    seed: int = 20130101

    @property
    def spec_id(self) -> str:
        """`<name>-<first 8 hex digits of the hash of everything declared>`."""
        return f"{self.name}-{sha256_hex(canonical_json(self.model_dump(mode='json')))[:8]}"
