"""Feast definitions of late_returns, derived from its declaration."""

from late_returns.use_case import USE_CASE

from nightshift.io.feast.definitions import feast_definitions

globals().update(feast_definitions(USE_CASE))
