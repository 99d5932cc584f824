"""Attacks on specs, with measured success and declared bounds.

Put here: a module per attack, with its measurement and its gates. Keep out: gates of a single version (gates).
"""
