"""What the DAG files share, and the only code that knows both Airflow and the pipeline."""
