"""Put here: what the DAG files share; the only code that uses both Airflow and the pipeline.

Keep out: anything that runs without Airflow (nightshift).
"""
