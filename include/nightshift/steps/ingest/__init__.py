"""Put here: steps from landed files to curated partitions.

Keep out: reading and typing of files (core.ingest) and Great Expectations (io.expectations).
"""
