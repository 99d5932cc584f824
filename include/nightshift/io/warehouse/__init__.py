"""Put here: SQL, connections and migrations of the PostgreSQL warehouse.

Keep out: what follows from the rows (core.lifecycle), and Feast's own tables (io.feast).
"""
