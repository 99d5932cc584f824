"""Put here: code that imports Feast or implements one of its interfaces.

Keep out: computing features and joining them (core.features).
"""
