"""Feast definitions of flight_delay, derived from its declaration in include/flight_delay/features.py.

Views that SQL cannot compute, for example on-demand views, are defined here, below the derived ones.
"""

from flight_delay.use_case import USE_CASE
from nightshift.io.feast.definitions import feast_definitions

globals().update(feast_definitions(USE_CASE))
