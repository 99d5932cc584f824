"""Put here: steps that build, audit and publish features, and load the online store.

Keep out: feature computation (core.features) and Feast itself (io.feast).
"""
