"""Specs and versions in service, and how a spec becomes champion.

Put here: pure functions over recorded decisions. Keep out: recording of decisions, gates of versions, I/O.
"""
