"""Put here: the pages that Airflow's UI shows, a module each: what it reads and shows; templates and static files.

Keep out: Airflow (plugins/), changes to anything, state, and imports that a first view would have to wait for: no
Arrow, NumPy, pandas or matplotlib outside of a function.
"""
