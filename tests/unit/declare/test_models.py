"""Hyperparameters that have to be numbers."""

from __future__ import annotations

import pytest

from nightshift.declare.models import number, numbers
from nightshift.errors import ConfigurationError
from support.errors import raises_code


def test_numbers_are_read_by_name():
    parameters = {"penalty": 0.5, "knots": 6, "units": [0.5, 0.25]}
    assert (number(parameters, "penalty"), number(parameters, "knots")) == (0.5, 6)
    assert (numbers(parameters, "penalty"), numbers(parameters, "units")) == ((0.5,), (0.5, 0.25))


@pytest.mark.parametrize("value", ["0.5", None, [1, 2], {"a": 1}])
def test_what_is_no_number_is_an_error(value):
    with raises_code(ConfigurationError, "NS-MODEL-024", "penalty"):
        number({"penalty": value}, "penalty")


def test_one_of_several_that_is_no_number_is_an_error():
    with raises_code(ConfigurationError, "NS-MODEL-024", "units", "half"):
        numbers({"units": [0.5, "half"]}, "units")
