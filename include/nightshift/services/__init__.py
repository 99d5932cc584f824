"""Put here: application logic that several steps, commands or pages share.

Keep out: adapters (io), pure functions (core), and what only one step needs (steps).
"""
