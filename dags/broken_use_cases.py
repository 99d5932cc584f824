"""Defines no DAG: reports use cases that cannot be loaded as an Airflow import error of this file only.

The other files make the DAGs of all other use cases.
"""

from nightshift.declare.discovery import broken_use_cases
from nightshift.errors import ConfigurationError

if broken := broken_use_cases():
    raise ConfigurationError("NS-USECASE-011", "; ".join(f"{path}: {fault}" for path, fault in broken.items()))
