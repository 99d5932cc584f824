"""Put here: adapters for object store, warehouse, Feast, MLflow, Great Expectations, clean runtimes, alert receivers.

Keep out: decisions and statistics (core), and logic that needs several adapters at once (services).
"""
