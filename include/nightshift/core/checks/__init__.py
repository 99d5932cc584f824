"""Checks of a use case's declarations and SQL before it runs.

Put here: checks that need no delivered data. Keep out: checks of delivered rows (ingest), loading of use cases.
"""
