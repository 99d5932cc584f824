"""Put here: steps of the search: study, race, selection, report.

Keep out: search algorithms (core.search) and techniques (core.compression).
"""
