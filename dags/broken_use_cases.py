"""Defines no DAG: reports use cases that cannot be loaded as an Airflow import error of this file only.

The other files make the DAGs of all other use cases.
"""

from nightshift.declare.discovery import check_loadable

check_loadable()
