"""Feast definitions of late_fees, derived from its declaration."""

from late_fees.use_case import USE_CASE

from nightshift.io.feast.definitions import feast_definitions

globals().update(feast_definitions(USE_CASE))
