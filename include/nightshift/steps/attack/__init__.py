"""Put here: steps that attack specs and report what the attacks achieve.

Keep out: attacks (core.attacks).
"""
